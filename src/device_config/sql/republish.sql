-- Marks the next :limit configurations, in the order of devices, that the broker retains; with :since only those that it
-- confirmed later.
with retained as materialized (
    select device_id
    from retained_configs
    where device_id > :after
        and not needs_publish
        and (:since::timestamptz is null or confirmed_at > :since)
    order by device_id
    limit :limit
    for no key update
)
update retained_configs r
set needs_publish = true
from retained
where r.device_id = retained.device_id
returning r.device_id;
