alter table device_states
    add column shed_messages bigint not null default 0,
    add column last_shed_at  timestamptz,
    add column backlog_since timestamptz;
comment on column device_states.shed_messages is 'Messages that were acknowledged and not stored, because the device sent faster than its limit.';
comment on column device_states.last_shed_at is 'When the last of them came; also tells a batch that is written again from a new one.';
comment on column device_states.backlog_since is 'The device was silent and may still deliver what it gathered from then on; null: its last sign of life.';
