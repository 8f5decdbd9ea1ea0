-- Locks the older commands of the type that the device can't have, in the order of their ids.
select id
from commands
where device_id = :device
    and status = 'PENDING'
    and deadline is not null
    and type = :kind
    and on_stale = 'SUPERSEDE'
    and dispatched_at is null
    and seq < :seq
order by id
for update;
