-- Makes commands of these devices pending again that the broker dropped because nobody was subscribed. Per device only
-- the oldest is requeued; the others follow once it is delivered. So a device that sends and never subscribes costs one
-- message. The rows of the queue are locked before commands, as in the transaction that adds a command.
with affected as materialized (
    select wanted.id as device_id, overtaking.seq
    from unnest(:devices::bigint[]) wanted (id)
        cross join lateral (
            select
            from commands c
            where c.device_id = wanted.id
                and c.no_subscribers
                and c.acked_at is null
                and c.status in ('SENT', 'TIMED_OUT')
                and c.expires_at > :now
            limit 1
        ) undelivered
        -- A command stays behind for good once a newer one was delivered, or may have been: sent later, the older one
        -- would undo it.
        cross join lateral (
            select coalesce((
                select n.seq
                from commands n
                where n.device_id = wanted.id
                    and n.dispatched_at is not null
                    and (not n.no_subscribers or n.may_have_been_delivered)
                order by n.seq desc
                limit 1
            ), 0) as seq
        ) overtaking
), turns as materialized (
    select q.device_id
    from command_queue q
    where q.device_id = any(array(select device_id from affected))
    order by q.device_id
    for update
), oldest as materialized (
    select undelivered.*
    from affected a
        cross join lateral (
            select
                c.id,
                -- The device has sent something since.
                c.sent_at < (select s.last_seen_at from device_states s where s.device_id = a.device_id) as is_seen,
                -- A newer command is about to be sent.
                (
                    select true
                    from commands n
                    where n.device_id = a.device_id
                        and n.status = 'PENDING'
                        and n.seq > c.seq
                        and n.created_at > c.sent_at
                    limit 1
                ) as is_before_newer
            from commands c
            where c.device_id = a.device_id
                and c.no_subscribers
                and c.acked_at is null
                and c.status in ('SENT', 'TIMED_OUT')
                and c.expires_at > :now
                and c.seq >= a.seq
            order by c.seq
            limit 1
        ) undelivered
), locked as materialized (
    select c.id, c.no_subscribers, c.acked_at, c.status
    from commands c
    where c.id = any(array(select o.id from oldest o where o.is_seen or o.is_before_newer))
        -- All turns are locked first.
        and (select count(*) from turns) is not null
    order by c.id
    for update
), requeued as materialized (
    -- Checked again under the lock.
    select l.id
    from locked l
    where l.no_subscribers and l.acked_at is null and l.status in ('SENT', 'TIMED_OUT')
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
