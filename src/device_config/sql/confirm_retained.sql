with confirmed as (
    select r.device_id,
        -- The device moved to another topic while the message was in flight: its configuration must follow. Or a
        -- server that had lost the device's lock sent an older version after this one.
        (r.home_segment, r.device_segment)
                is distinct from (coalesce(s.home_segment, h.key), coalesce(s.device_segment, d.key))
            or r.version <> o.version as needs_publish
    from unnest(:devices::bigint[], :versions::integer[], :are_retained::boolean[])
        o (device_id, version, is_retained)
    join retained_configs r on r.device_id = o.device_id
    join devices d on d.id = r.device_id
    join homes h on h.id = d.home_id
    left join device_states s on s.device_id = d.id
    where o.is_retained
    order by r.device_id
    for no key update of r
)
update retained_configs r
set needs_publish = confirmed.needs_publish,
    confirmed_at = case when confirmed.needs_publish then r.confirmed_at else clock_timestamp() end
from confirmed
where r.device_id = confirmed.device_id;
