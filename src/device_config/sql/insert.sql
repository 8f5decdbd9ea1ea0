insert into device_configs as c (
    device_id, home_id, version, config, secrets, status, created_by, created_at, updated_at
)
values (
    :device, :home, :version, :config::json, :secrets, 'PENDING', :user, :now, clock_timestamp()
)
returning c.device_id, c.home_id, c.version, c.config, c.status, c.errors, c.created_by, c.created_at, c.sent_at,
    c.applied_at, c.updated_at;
