-- Locks the older commands of the type that the device can't have, in the order of their ids. A command that the
-- broker dropped for lack of subscribers has not reached the device either.
select id
from commands
where device_id = :device
    and (status = 'PENDING' or no_subscribers and status in ('SENT', 'TIMED_OUT'))
    and type = :kind
    and on_stale = 'SUPERSEDE'
    and dispatched_at is null
    and seq < :seq
order by id
for update;
