alter table device_states
    add column stored_day date,
    add column stored_bytes bigint not null default 0;
comment on column device_states.stored_day is 'The last day (UTC) on which a reading of the device was accepted.';
comment on column device_states.stored_bytes is 'Bytes of the payloads of its readings accepted on that day. Written with other changes of the row, so it lags behind by some seconds.';
