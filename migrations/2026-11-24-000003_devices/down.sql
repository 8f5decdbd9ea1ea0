drop table device_states;
drop table device_credentials;
drop table devices;
