-- The devices with these ids that the viewer sees, with their states and the viewer's memberships. Each device is looked up
-- by its id, or PostgreSQL would read all devices of the viewer's homes.
select
    d.id, d.home_id, h.key, d.key, d.name, d.mac_address, d.type, d.room_id, d.created_at,
    coalesce(s.online, false), s.online_changed_at, s.last_seen_at, s.firmware_version, s.signal_strength,
    s.battery_level, coalesce(s.metadata, '{}'),
    case when :with_reported::boolean then s.reported end, s.reported_at, coalesce(s.shed_messages, 0), s.last_shed_at,
    s.home_segment, s.device_segment,
    m.user_id, m.home_id, m.role, m.scopes
from (select distinct id from unnest(:ids::bigint[]) id) wanted
    cross join lateral (select * from devices where id = wanted.id limit 1) d
    cross join lateral (select * from memberships where home_id = d.home_id and user_id = :viewer limit 1) m
    join homes h on h.id = d.home_id
    left join device_states s on s.device_id = d.id
where sees_device(m.device_ids, d.id)
order by d.id
