with pending as (
    select c.device_id, c.version
    from device_configs c
    join unnest(:devices::bigint[], :versions::integer[]) o (device_id, version)
        on o.device_id = c.device_id and o.version = c.version
    where c.status = 'PENDING'
    order by c.device_id, c.version
    for no key update of c
)
update device_configs c
set status = 'SENT',
    sent_at = :now,
    updated_at = greatest(clock_timestamp(), c.updated_at + interval '1 us')
from pending
where c.device_id = pending.device_id
    and c.version = pending.version
returning c.device_id, c.home_id, c.version, c.config, c.status, c.errors, c.created_by, c.created_at, c.sent_at,
    c.applied_at, c.updated_at;
