-- The devices with these keys or MAC addresses in these homes that the viewer sees, as find_devices.sql reads them. Each
-- kind of name is looked up by its own unique index: with `or`, PostgreSQL reads all devices of the home.
select
    d.id, d.home_id, h.key, d.key, d.name, d.mac_address, d.type, d.room_id, d.created_at,
    coalesce(s.online, false), s.online_changed_at, s.last_seen_at, s.firmware_version, s.signal_strength,
    s.battery_level, coalesce(s.metadata, '{}'), s.reported, s.reported_at,
    coalesce(s.shed_messages, 0), s.last_shed_at,
    s.home_segment, s.device_segment,
    m.user_id, m.home_id, m.role, m.scopes
from unnest(:homes::bigint[], :keys::text[], :mac_addresses::text[]) wanted (home_id, key, mac_address)
    cross join lateral (select * from memberships where home_id = wanted.home_id and user_id = :viewer limit 1) m
    cross join lateral (
        select * from devices where home_id = wanted.home_id and key = wanted.key
        union all
        select * from devices where home_id = wanted.home_id and mac_address = wanted.mac_address
        limit 1
    ) d
    join homes h on h.id = d.home_id
    left join device_states s on s.device_id = d.id
where sees_device(m.device_ids, d.id)
