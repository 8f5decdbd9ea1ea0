with answer as materialized (
    select *
    from unnest(
        :devices::bigint[], :versions::integer[], :statuses::text[], :errors::json[], :received_at::timestamptz[]
    ) a (device_id, version, status, errors, received_at)
),
-- Locked before the versions, as where the broker's confirmations are recorded.
retained as materialized (
    select r.device_id
    from retained_configs r
    join answer a on a.device_id = r.device_id and a.version = r.version
    where a.status = 'REJECTED'
    order by r.device_id
    for no key update of r
),
unanswered as (
    select c.device_id, c.version
    from device_configs c
    join answer a on a.device_id = c.device_id and a.version = c.version
    where c.status in ('PENDING', 'SENT')
        -- True; it has them locked first.
        and (select count(*) from retained) >= 0
    -- Locked in one order, so that two servers never deadlock.
    order by c.device_id, c.version
    for no key update of c
),
answered as (
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
        c.applied_at, c.updated_at
),
-- The broker does not keep a rejected version. It gets the last one that the device applied. Where there is none, the
-- deletion leaves a row in retained_clearings, by the table's trigger.
accepted as (
    select r.device_id, (
        select max(c.version) from device_configs c where c.device_id = r.device_id and c.status = 'APPLIED'
    ) as version
    from answered
    join retained r on r.device_id = answered.device_id
    where answered.status = 'REJECTED'
),
replaced as (
    update retained_configs r
    set version = accepted.version,
        needs_publish = true
    from accepted
    where r.device_id = accepted.device_id
        and accepted.version is not null
),
cleared as (
    delete from retained_configs r
    using accepted
    where r.device_id = accepted.device_id
        and accepted.version is null
)
select * from answered;
