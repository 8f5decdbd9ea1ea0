drop index device_configs_pending;
create index device_configs_pending on device_configs (home_id, created_at, device_id) where status = 'PENDING';
comment on index device_configs_pending is 'Homes with versions to send, and the versions of each, oldest first.';
