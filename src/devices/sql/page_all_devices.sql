-- Up to :limit devices of all homes of the viewer that the viewer sees and that pass the filter, home by home and by id,
-- after the device :after of the home :after_home. The homes before it are not read, and those behind only as far as the
-- page needs them: the homes come in their order, so PostgreSQL sorts them one after the other.
-- A filter that few devices pass looks at the devices of all these homes.
select
    d.id, d.home_id, h.key, d.key, d.name, d.mac_address, d.type, d.room_id, d.created_at,
    coalesce(s.online, false), s.online_changed_at, s.last_seen_at, s.firmware_version, s.signal_strength,
    s.battery_level, coalesce(s.metadata, '{}'),
    case when :with_reported::boolean then s.reported end, s.reported_at, coalesce(s.shed_messages, 0), s.last_shed_at,
    s.home_segment, s.device_segment,
    m.user_id, m.home_id, m.role, m.scopes
from (
        select * from memberships where user_id = :viewer and home_id >= :after_home order by home_id
    ) m
    join homes h on h.id = m.home_id
    cross join lateral (
        select d.*
        from filtered_devices(
                m.home_id, m.device_ids, :is_filtered, :room, :kinds, :online, :battery_below, :last_seen_before, :search
            ) d
        where d.id > case when m.home_id = :after_home then :after else 0 end
        order by d.id
        limit :limit
    ) d
    left join device_states s on s.device_id = d.id
order by m.home_id, d.id
limit :limit
