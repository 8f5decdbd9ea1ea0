-- Records how attempts to publish commands ended (PublishOutcome).
with attempts as materialized (
    select * from unnest(:ids::uuid[], :outcomes::text[], :errors::text[]) a (id, outcome, error)
), locked as materialized (
    select c.id, c.status, c.sent_at, c.no_subscribers
    from commands c
    where c.id in (select id from attempts)
    order by c.id
    for update
), recorded as (
    select
        a.id,
        a.outcome,
        a.error,
        a.outcome = 'CONFIRMED' as is_accepted,
        l.status = 'PENDING' as is_pending,
        a.outcome = 'NO_SUBSCRIBERS' and l.no_subscribers as is_repeated
    from attempts a join locked l on l.id = a.id
    -- The broker's first acknowledgement counts even after the answer of the device; any other outcome counts for a
    -- pending command only.
    where case when a.outcome = 'CONFIRMED' then l.sent_at is null else l.status = 'PENDING' end
), repeated as (
    -- Still nobody is subscribed: no change that subscribers of the API want to see.
    update commands c
    set dispatched_at = case when c.may_have_been_delivered then c.dispatched_at end
    from recorded r
    where c.id = r.id and r.is_repeated
)
update commands c
set
    status = case
        when not r.is_pending then c.status
        when r.is_accepted then 'SENT'
        when r.outcome = 'EXPIRED' then 'EXPIRED'
        else c.status
    end,
    sent_at = case when r.is_accepted then :now::timestamptz else c.sent_at end,
    no_subscribers = r.outcome = 'NO_SUBSCRIBERS' or c.no_subscribers and r.outcome = 'EXPIRED',
    -- Without an earlier attempt of unknown outcome, the device can't have a command that was not confirmed.
    dispatched_at = case
        when r.is_pending and r.outcome <> 'CONFIRMED' and not c.may_have_been_delivered then null
        else c.dispatched_at
    end,
    finished_at = case when r.is_pending and r.outcome = 'EXPIRED' then :now else c.finished_at end,
    error = case when r.is_pending and r.outcome <> 'NOT_SENT' then r.error else c.error end,
    deadline = case
        when not r.is_pending then c.deadline
        when r.is_accepted then :now + make_interval(secs => c.timeout_seconds)
        when r.outcome = 'EXPIRED' then null
        else c.deadline
    end,
    updated_at = case r.outcome
        when 'NOT_SENT' then c.updated_at
        else greatest(clock_timestamp(), c.updated_at + interval '1 us')
    end
from recorded r
where c.id = r.id and not r.is_repeated
returning c.*, c.type as kind;
