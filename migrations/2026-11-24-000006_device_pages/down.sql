drop index devices_home;
