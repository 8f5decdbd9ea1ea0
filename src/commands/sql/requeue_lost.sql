-- Makes these commands pending again, which the broker lost with our session. Devices are locked before the rows of the
-- queue, and these before commands, as in the transactions that add a command or delete a device. A row that the queue
-- lacks is added then: a trigger would add it after the commands are locked.
with affected as materialized (
    select c.id, c.device_id
    from commands c
    where c.id = any(:ids)
), existing as materialized (
    select d.id, d.home_id
    from devices d
    where d.id = any(array(select device_id from affected))
    order by d.id
    for key share
), turns as materialized (
    insert into command_queue as q (device_id, home_id)
    select id, home_id from existing order by id
    on conflict (device_id) do update set n_changes = q.n_changes + 1, is_held = false, retry_at = null
    returning q.device_id
), lost as materialized (
    select c.id
    from commands c
    where c.id = any(array(select id from affected))
        and (select count(*) from turns) is not null
        -- Checked again under the lock. Not as a plain comparison, by which PostgreSQL could read all that were sent.
        and c.status = 'SENT'
        and c.acked_at is null
        and coalesce(c.sent_at <= :before, false)
    order by c.id
    for update
)
update commands c
set
    may_have_been_delivered = true,
    status = 'PENDING',
    sent_at = null,
    finished_at = null,
    error = null,
    deadline = c.expires_at,
    updated_at = greatest(clock_timestamp(), c.updated_at + interval '1 us')
from lost
where c.id = lost.id
returning c.*, c.type as kind;
