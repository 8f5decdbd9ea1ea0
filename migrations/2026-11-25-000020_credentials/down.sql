drop index device_credentials_expiry;
alter table device_credentials drop column broker_hash, drop column slot;
