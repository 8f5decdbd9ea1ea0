-- The newest version of each device, or the last that it applied if it rejected the newest, if the broker may not have
-- it, and the topic to which the device listens.
-- The devices stay locked against deletion until the message is noted in retained_configs.
select d.id as device_id, c.version, c.config, c.secrets, c.created_at,
    coalesce(s.home_segment, h.key) as home_segment,
    coalesce(s.device_segment, d.key) as device_segment
from devices d
join homes h on h.id = d.home_id
left join device_states s on s.device_id = d.id
cross join lateral (
    select *
    from device_configs
    where device_id = d.id
        and status not in ('REJECTED', 'SUPERSEDED')
    order by version desc
    limit 1
) c
left join retained_configs r on r.device_id = d.id
where d.id = any (:devices::bigint[])
    and (
        c.status = 'PENDING'
        or r.device_id is null
        or r.needs_publish
        or r.version <> c.version
        or (r.home_segment, r.device_segment)
            is distinct from (coalesce(s.home_segment, h.key), coalesce(s.device_segment, d.key))
    )
order by d.id
for key share of d;
