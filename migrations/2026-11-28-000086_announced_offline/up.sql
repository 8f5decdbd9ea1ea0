alter table device_states rename column away to announced_offline;
comment on column device_states.announced_offline is 'The device or its Last Will announced that it is offline, and no message came since: commands wait for one.';
