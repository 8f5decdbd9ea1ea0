select c.device_id, c.home_id, c.version, c.config, c.status, c.errors, c.created_by, c.created_at, c.sent_at,
    c.applied_at, c.updated_at
from device_configs c
where c.home_id = :home
    and (c.updated_at, c.device_id, c.version) > (:after_time, :after_device, :after_version)
    -- Without a device, every device of the home.
    and c.device_id = coalesce(:device::bigint, c.device_id)
order by c.updated_at, c.device_id, c.version
limit :limit;
