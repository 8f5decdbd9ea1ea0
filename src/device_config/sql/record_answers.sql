with answer as (
    select *
    from unnest(
        :devices::bigint[], :versions::integer[], :statuses::text[], :errors::json[], :received_at::timestamptz[]
    ) a (device_id, version, status, errors, received_at)
),
unanswered as (
    select c.device_id, c.version
    from device_configs c
    join answer a on a.device_id = c.device_id and a.version = c.version
    where c.status in ('PENDING', 'SENT')
    -- Locked in one order, so that two servers never deadlock.
    order by c.device_id, c.version
    for no key update of c
)
update device_configs c
set status = a.status,
    errors = a.errors,
    answered_at = a.received_at,
    applied_at = case when a.status = 'APPLIED' then a.received_at end,
    -- An answer proves that the version was sent, even before the broker confirms it.
    sent_at = coalesce(c.sent_at, a.received_at),
    updated_at = greatest(clock_timestamp(), c.updated_at + interval '1 us')
from unanswered u
join answer a on a.device_id = u.device_id and a.version = u.version
where c.device_id = u.device_id
    and c.version = u.version
returning c.device_id, c.home_id, c.version, c.config, c.status, c.errors, c.created_by, c.created_at, c.sent_at,
    c.applied_at, c.updated_at;
