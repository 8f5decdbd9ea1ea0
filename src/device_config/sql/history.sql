select c.device_id, c.home_id, c.version, c.config, c.status, c.errors, c.created_by, c.created_at, c.sent_at,
    c.applied_at, c.updated_at
from unnest(:devices::bigint[]) wanted (id)
cross join lateral (
    select *
    from device_configs
    where device_id = wanted.id
        and version < :before
    order by version desc
    limit :limit
) c
order by c.device_id, c.version desc;
