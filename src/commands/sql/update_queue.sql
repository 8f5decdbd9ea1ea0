-- Updates the queue for devices that got a command, or had none to send. What the first part reads counts only for a
-- row that is unchanged when it is locked: a command may have been added in between. A row that is locked already is
-- about to change.
with seen as materialized (
    select
        q.device_id,
        q.n_changes,
        coalesce((
            select true
            from commands c
            where c.device_id = q.device_id and c.status = 'PENDING' and c.expires_at > :now
            limit 1
        ), false) as has_pending,
        coalesce((
            select true
            from commands c
            where c.device_id = q.device_id
                and c.no_subscribers
                and c.acked_at is null
                and c.status in ('SENT', 'TIMED_OUT')
                and c.expires_at > :now
            limit 1
        ), false) as has_undelivered,
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
    where q.device_id = u.device_id and not u.has_pending and not u.has_undelivered
)
update command_queue q
set
    turn = nextval(pg_get_serial_sequence('command_queue', 'turn')),
    is_held = u.is_offline or not u.has_pending
from unchanged u
where q.device_id = u.device_id and (u.has_pending or u.has_undelivered)
returning q.device_id;
