drop index device_configs_pending;
create index device_configs_pending on device_configs (created_at, device_id) where status = 'PENDING';
