-- The devices in these rooms that the viewer sees, with their states and the viewer's memberships.
select
    d.id, d.home_id, h.key, d.key, d.name, d.mac_address, d.type, d.room_id, d.created_at,
    coalesce(s.online, false), s.online_changed_at, s.last_seen_at, s.firmware_version, s.signal_strength,
    s.battery_level, coalesce(s.metadata, '{}'), coalesce(s.shed_messages, 0), s.last_shed_at,
    s.home_segment, s.device_segment,
    m.user_id, m.home_id, m.role, m.scopes
from devices d
    join homes h on h.id = d.home_id
    join memberships m on m.home_id = d.home_id
    left join device_states s on s.device_id = d.id
where m.user_id = :viewer
    and sees_device(m.device_ids, d.id)
    and d.room_id = any (:rooms::bigint[])
order by d.room_id, d.id
limit :limit
