alter table device_states drop column away;
