-- Records what devices answered. The rows are locked before they are compared, in the order of their ids, so two
-- servers can't wait for each other.
with answers as materialized (
    select *
    from unnest(
        :ids::uuid[], :devices::bigint[], :acked_at::timestamptz[], :finished_at::timestamptz[], :outcomes::text[],
        :confirmed_by::text[], :results::json[], :errors::text[]
    ) a (id, device_id, acked_at, finished_at, outcome, confirmed_by, result, error)
), locked as materialized (
    select c.id, c.status, c.dispatched_at, c.acked_at, c.finished_at, c.confirmed_by
    from commands c
    where c.id in (select id from answers)
    order by c.id
    for update
), compared as (
    select
        a.*,
        -- An effect ends a command only if the device may have had the command before it.
        a.outcome is not null
            and l.status in ('PENDING', 'SENT', 'ACKED', 'TIMED_OUT', 'EXPIRED')
            and (
                a.confirmed_by = 'ACK'
                or l.status <> 'EXPIRED' and l.dispatched_at is not null and l.dispatched_at <= a.finished_at
            ) as ends,
        a.acked_at is not null
            and l.acked_at is null
            and l.status in ('PENDING', 'SENT', 'TIMED_OUT', 'EXPIRED') as acks,
        -- The row shows this answer already: the answer of an earlier commit was lost, and this is its repetition.
        coalesce(
            l.finished_at = a.finished_at and l.status = a.outcome or l.acked_at = a.acked_at and a.outcome is null,
            false
        ) as repeats
    from answers a join locked l on l.id = a.id
)
update commands c
set
    status = case when a.ends then a.outcome when a.acks then 'ACKED' else c.status end,
    acked_at = case when a.acks then a.acked_at else c.acked_at end,
    finished_at = case when a.ends then a.finished_at when a.acks then null else c.finished_at end,
    deadline = case
        when a.ends then null
        when a.acks then a.acked_at + make_interval(secs => c.timeout_seconds)
        else c.deadline
    end,
    confirmed_by = case when a.ends then a.confirmed_by else c.confirmed_by end,
    result = case when a.ends then a.result else c.result end,
    error = case when a.ends then a.error when a.acks then null else c.error end,
    updated_at = case
        when a.ends or a.acks then greatest(clock_timestamp(), c.updated_at + interval '1 us')
        else c.updated_at
    end
from compared a
where c.id = a.id and c.device_id = a.device_id and (a.ends or a.acks or a.repeats)
returning c.*, c.type as kind;
