with retained as (
    select device_id
    from retained_configs
    where not needs_publish
    order by device_id
    for no key update
)
update retained_configs r
set needs_publish = true
from retained
where r.device_id = retained.device_id;
