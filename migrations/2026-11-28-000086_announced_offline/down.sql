comment on column device_states.announced_offline is 'The device (or its last will) said goodbye and has not been heard since: commands wait for it.';
alter table device_states rename column announced_offline to away;
