with recent as (
    select device_id
    from retained_configs
    where not needs_publish
        and confirmed_at > :since
    order by device_id
    for no key update
)
update retained_configs r
set needs_publish = true
from recent
where r.device_id = recent.device_id;
