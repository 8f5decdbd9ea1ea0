alter table devices drop column mqtt_client_id;
