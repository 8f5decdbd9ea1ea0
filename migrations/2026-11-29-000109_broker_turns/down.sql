drop index device_credentials_secret;

drop index mqtt_clients_pending;
create index mqtt_clients_pending on mqtt_clients (changed_at) where credential_id is null or sealed_password is not null;

drop index broker_cleanups_segments;
drop index broker_cleanups_cleared;
drop index broker_cleanups_uncleared;
