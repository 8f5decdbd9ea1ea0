with unanswered as (
    select device_id, version
    from device_configs
    where device_id = :device
        and status in ('PENDING', 'SENT')
    -- Every statement locks versions in this order.
    order by version
    for no key update
)
update device_configs c
set status = 'SUPERSEDED',
    updated_at = greatest(clock_timestamp(), c.updated_at + interval '1 us')
from unanswered
where c.device_id = unanswered.device_id
    and c.version = unanswered.version
returning c.device_id, c.home_id, c.version, c.config, c.status, c.errors, c.created_by, c.created_at, c.sent_at,
    c.applied_at, c.updated_at;
