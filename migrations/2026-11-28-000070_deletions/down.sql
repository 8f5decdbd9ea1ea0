drop index devices_room;
create index devices_room on devices (room_id) where room_id is not null;

update device_configs c set created_by = null where not exists (select from users u where u.id = c.created_by);
update commands c set requested_by = null
    where requested_by is not null and not exists (select from users u where u.id = c.requested_by);
create index device_configs_created_by on device_configs (created_by);
alter table device_configs
    add constraint device_configs_created_by_fkey foreign key (created_by) references users (id) on delete set null;
alter table commands
    add constraint commands_requested_by_fkey foreign key (requested_by) references users (id) on delete set null;
comment on column device_configs.created_by is null;
comment on column commands.requested_by is 'Who asked for it; null once the account is gone.';

-- What is still to go goes now. Readings never had a reference: of homes and devices that are gone none may be left.
delete from telemetry t using deletions d where d.device_id is null and t.home_id = d.home_id;
delete from telemetry t using deletions d where t.device_id = d.device_id and t.home_id = d.home_id;
delete from device_configs c where not exists (select from devices d where d.id = c.device_id);
delete from commands c where not exists (select from devices d where d.id = c.device_id);
delete from rejected_messages m where not exists (select from homes h where h.id = m.home_id);
alter table device_configs
    add constraint device_configs_device_id_fkey foreign key (device_id) references devices (id) on delete cascade;
alter table commands
    add constraint commands_device_id_fkey foreign key (device_id) references devices (id) on delete cascade;
alter table rejected_messages
    add constraint rejected_messages_home_id_fkey foreign key (home_id) references homes (id) on delete cascade;
comment on column device_configs.device_id is null;
comment on column commands.device_id is 'Who is to do it.';
comment on column rejected_messages.home_id is null;
drop table deletions;
