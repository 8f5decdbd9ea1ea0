drop index commands_unheard;
create index commands_unheard on commands (device_id) where unheard;
