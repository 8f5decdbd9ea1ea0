alter table devices add column mqtt_client_id text;
create unique index devices_mqtt_client_id on devices (mqtt_client_id);
comment on column devices.mqtt_client_id is 'The client id of its credentials. It is random in part, so no device had it before. Null: registered by an older release, with the client id {key}@{home key}.';
