drop trigger move_retained_config_first on device_states;
drop trigger move_retained_config on device_states;
drop function move_retained_config();
