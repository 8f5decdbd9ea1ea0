create table deletions (
    id           bigint      generated always as identity primary key,
    home_id      bigint      not null,
    device_id    bigint,
    requested_at timestamptz not null default clock_timestamp()
);
comment on table deletions is
    'Homes and devices that are deleted and of which something large may be left: it goes piece by piece, this row last.';
comment on column deletions.home_id is 'The home, or that of the device. No reference: it may be gone.';
comment on column deletions.device_id is 'The device alone; null for all of the home.';

-- What there may be much of goes after its home, so it can't refer to it. Nothing comes after the deletion: commands
-- and configurations are inserted behind the lock of their device's row, rejected messages behind the ingest gate.
alter table rejected_messages drop constraint rejected_messages_home_id_fkey;
alter table commands drop constraint commands_device_id_fkey;
alter table device_configs drop constraint device_configs_device_id_fkey;
comment on column rejected_messages.home_id is 'No reference: a home goes first, and its messages piece by piece after it.';
comment on column commands.device_id is 'Who is to do it. No reference: a home goes first, and its commands piece by piece after it.';
comment on column device_configs.device_id is 'No reference: a home goes first, and its versions piece by piece after it.';

-- Whoever deletes an account, an integration's too, must not have to look through what it ever asked for.
alter table commands drop constraint commands_requested_by_fkey;
alter table device_configs drop constraint device_configs_created_by_fkey;
drop index device_configs_created_by;
comment on column commands.requested_by is 'Who asked for it. No reference: the account may be gone.';
comment on column device_configs.created_by is 'Who pushed it. No reference: the account may be gone.';

-- All of the reference to rooms: whoever deletes a room looks for its devices by both columns.
drop index devices_room;
create index devices_room on devices (room_id, home_id) where room_id is not null;
