alter table mqtt_clients drop column remove_first;
drop table broker_cleanups;
