select c.device_id, c.home_id, c.version, c.config, c.status, c.errors, c.created_by, c.created_at, c.sent_at,
    c.applied_at, c.updated_at
from unnest(:devices::bigint[], :versions::integer[]) wanted (device_id, version)
join device_configs c on c.device_id = wanted.device_id and c.version = wanted.version;
