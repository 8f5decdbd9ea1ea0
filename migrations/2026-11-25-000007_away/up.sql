alter table device_states add column away boolean not null default false;
comment on column device_states.away is 'The device (or its last will) said goodbye and has not been heard since: commands wait for it.';
