drop table device_configs, retained_configs, retained_clearings;
drop function clear_retained_config();
