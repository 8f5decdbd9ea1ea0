-- The devices in these rooms that the viewer sees, with their states and the viewer's memberships. Room by room, or
-- PostgreSQL would read all devices of the viewer's homes.
select
    d.id, d.home_id, h.key, d.key, d.name, d.mac_address, d.type, d.room_id, d.created_at,
    coalesce(s.online, false), s.online_changed_at, s.last_seen_at, s.firmware_version, s.signal_strength,
    s.battery_level, coalesce(s.metadata, '{}'),
    case when :with_reported::boolean then s.reported end, s.reported_at, coalesce(s.shed_messages, 0), s.last_shed_at,
    s.home_segment, s.device_segment,
    m.user_id, m.home_id, m.role, m.scopes
from (select distinct id from unnest(:rooms::bigint[]) id) wanted
    cross join lateral (select id, home_id from rooms where id = wanted.id limit 1) r
    cross join lateral (select * from memberships where home_id = r.home_id and user_id = :viewer limit 1) m
    join homes h on h.id = r.home_id
    cross join lateral (
        select * from devices where room_id = r.id and sees_device(m.device_ids, devices.id) limit :limit
    ) d
    left join device_states s on s.device_id = d.id
order by d.room_id, d.id
limit :limit
