-- Ends commands whose deadline has passed: those not sent expire, those sent or acknowledged time out. The rows are
-- locked in the order of their ids, as in every statement that changes several commands.
with overdue as materialized (
    select c.id
    from commands c
    where c.id = any(array(select id from commands where deadline <= :now order by deadline limit :limit))
        -- Checked again under the lock. Not as a plain comparison, by which PostgreSQL could read all that are overdue.
        and coalesce(c.deadline <= :now, false)
    order by c.id
    for update
)
update commands c
set
    status = case c.status when 'PENDING' then 'EXPIRED' else 'TIMED_OUT' end,
    error = case
        when c.status = 'ACKED' then 'acknowledged by the device, which never reported an outcome'
        when c.status = 'SENT' then 'no answer from the device'
        -- The connection ended before the broker answered: it may have been sent.
        when c.dispatched_at is not null
            then coalesce(c.error || '; ', '') || 'the broker did not confirm it before it expired'
        when c.no_subscribers then 'nobody was subscribed to the device''s topic before it expired'
        else 'it could not be sent before it expired'
    end,
    finished_at = :now,
    deadline = null,
    updated_at = greatest(clock_timestamp(), c.updated_at + interval '1 us')
from overdue
where c.id = overdue.id and c.deadline is not null
returning c.*, c.type as kind;
