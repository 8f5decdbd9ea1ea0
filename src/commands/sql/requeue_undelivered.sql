-- Makes commands pending again that the broker dropped because nobody was subscribed. Per device only the oldest is
-- requeued; the others follow once it is delivered. So a device that sends and never subscribes costs one message.
with undelivered as materialized (
    select c.id, c.device_id, c.seq, c.sent_at
    from commands c
    where c.no_subscribers and c.acked_at is null and c.status in ('SENT', 'TIMED_OUT') and c.expires_at > :now
), overtaken as materialized (
    -- A command stays behind for good once a newer one was delivered, or may have been: sent later, the older one
    -- would undo it.
    select d.device_id, coalesce((
        select n.seq
        from commands n
        where n.device_id = d.device_id
            and n.dispatched_at is not null
            and (not n.no_subscribers or n.may_have_been_delivered)
        order by n.seq desc
        limit 1
    ), 0) as seq
    from (select distinct device_id from undelivered) d
), oldest as (
    select distinct on (u.device_id) u.*
    from undelivered u join overtaken o on o.device_id = u.device_id
    where u.seq >= o.seq
    order by u.device_id, u.seq
), requeued as materialized (
    select c.id
    from commands c
    where c.id in (
            select o.id
            from oldest o
            where
                -- The device has sent something since.
                exists (select from device_states s where s.device_id = o.device_id and s.last_seen_at > o.sent_at)
                -- A newer command is about to be sent.
                or exists (
                    select
                    from commands n
                    where n.device_id = o.device_id
                        and n.status = 'PENDING'
                        and n.seq > o.seq
                        and n.created_at > o.sent_at
                )
        )
        -- Checked again under the lock.
        and c.no_subscribers and c.acked_at is null and c.status in ('SENT', 'TIMED_OUT')
    order by c.id
    for update
)
update commands c
set
    status = 'PENDING',
    sent_at = null,
    finished_at = null,
    error = null,
    deadline = c.expires_at,
    no_subscribers = false,
    updated_at = clock_timestamp()
from requeued
where c.id = requeued.id
returning c.*, c.type as kind;
