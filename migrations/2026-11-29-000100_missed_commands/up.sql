alter table device_states
    add column silent_since timestamptz,
    add column returned_at timestamptz,
    add column returned_from_offline boolean not null default false;
comment on column device_states.returned_at is 'When the device last came back: with a status, or with any message after it had announced that it is offline.';
comment on column device_states.silent_since is 'Its last message before returned_at: it may have missed what was sent in between.';
comment on column device_states.returned_from_offline is 'It was offline before returned_at. Otherwise it sent its status, as devices do after they connect.';

alter table commands add column resends smallint not null default 0;
comment on column commands.resends is 'How often it was made pending again because its device came back without an answer.';

create index commands_unanswered on commands (device_id, expires_at)
    where acked_at is null and status in ('SENT', 'TIMED_OUT');
comment on index commands_unanswered is 'Commands that a device which comes back may have missed.';
