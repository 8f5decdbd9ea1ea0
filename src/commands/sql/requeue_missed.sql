-- Makes commands pending again that their device may have missed: it sent nothing between them and its return, which is
-- recorded in device_states. Of each device the newest :per_device. Devices are locked before the rows of the queue, and
-- these before commands, as in the transactions that add a command or delete a device.
with missed as materialized (
    select unanswered.*, s.returned_at
    from unnest(:devices::bigint[]) wanted (id)
        join device_states s on s.device_id = wanted.id
        cross join lateral (
            select c.id, c.device_id, c.seq, c.type, c.on_stale
            from commands c
            where c.device_id = wanted.id
                and c.status in ('SENT', 'TIMED_OUT')
                and c.acked_at is null
                and c.expires_at > :now
                and c.sent_at < s.returned_at
                -- The broker's confirmation and a message of the device may be recorded in either order.
                and c.sent_at >= s.silent_since - interval '1 second'
                and c.resends < case when s.returned_from_offline then :max_resends else 1 end
                -- A reset ends the connection: the return shows that it was executed.
                and c.type <> 'RESET'
            order by c.seq desc
            limit :per_device
        ) unanswered
), existing as materialized (
    select d.id, d.home_id
    from devices d
    where d.id = any(array(select device_id from missed))
    order by d.id
    for key share
), turns as materialized (
    insert into command_queue as q (device_id, home_id)
    select id, home_id from existing order by id
    on conflict (device_id) do update set n_changes = q.n_changes + 1, is_held = false, retry_at = null
    returning q.device_id
), locked as materialized (
    select c.id, c.status, c.acked_at, c.sent_at, m.returned_at
    from missed m join commands c on c.id = m.id
    -- All turns are locked first.
    where (select count(*) from turns) is not null
        -- A command stays behind once a newer one was answered, was sent after the return, or replaces it: sent later,
        -- the older one would undo it.
        and not exists (
            select
            from commands n
            where n.device_id = m.device_id
                and n.seq > m.seq
                and (
                    n.acked_at is not null
                    or n.confirmed_by is not null
                    or n.sent_at >= m.returned_at
                    or m.on_stale = 'SUPERSEDE' and n.type = m.type and n.status not in ('CANCELLED', 'EXPIRED')
                )
        )
    order by c.id
    for update of c
), requeued as materialized (
    -- Checked again under the lock: another server may have sent it again.
    select l.id
    from locked l
    where l.status in ('SENT', 'TIMED_OUT') and l.acked_at is null and l.sent_at < l.returned_at
)
update commands c
set
    may_have_been_delivered = true,
    status = 'PENDING',
    sent_at = null,
    finished_at = null,
    error = null,
    deadline = c.expires_at,
    resends = c.resends + 1,
    updated_at = greatest(clock_timestamp(), c.updated_at + interval '1 us')
from requeued
where c.id = requeued.id
returning c.*, c.type as kind;
