-- Updates the queue for devices that got a command, or had none to send. A device to whose topic nobody was subscribed is
-- tried again in 1, 2, 4, 8, then every 15 seconds. What the first part reads counts only for a row that is unchanged
-- when it is locked: a command may have been added in between. A row that is locked already is about to change.
with seen as materialized (
    select
        q.device_id,
        q.n_changes,
        -- Null where no command is pending.
        (
            select c.no_subscribers
            from commands c
            where c.device_id = q.device_id
                and c.status = 'PENDING'
                and c.deadline is not null
                and c.expires_at > :now
            order by c.seq
            limit 1
        ) as has_no_subscribers,
        coalesce((select s.announced_offline from device_states s where s.device_id = q.device_id), false) as is_offline
    from command_queue q
    where q.device_id = any(:devices)
), locked as materialized (
    select q.device_id, q.n_changes
    from command_queue q
    where q.device_id = any(:devices)
    order by q.device_id
    for update skip locked
), unchanged as materialized (
    select s.* from seen s join locked l on l.device_id = s.device_id and l.n_changes = s.n_changes
), finished as (
    delete from command_queue q
    using unchanged u
    where q.device_id = u.device_id and u.has_no_subscribers is null
)
update command_queue q
set
    turn = nextval(pg_get_serial_sequence('command_queue', 'turn')),
    is_held = u.is_offline or u.has_no_subscribers,
    retry_at = case
        when u.has_no_subscribers and not u.is_offline
            then :now::timestamptz + make_interval(secs => least(2 ^ q.n_retries, 15))
    end,
    n_retries = case when u.has_no_subscribers then least(q.n_retries + 1, 4) else 0 end
from unchanged u
where q.device_id = u.device_id and u.has_no_subscribers is not null
returning q.device_id, q.retry_at is not null;
