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
        from devices d
        where d.home_id = m.home_id
            and sees_device(m.device_ids, d.id)
            and d.id > case when m.home_id = :after_home then :after else 0 end
            and case
                when :is_filtered::boolean then
                    coalesce(d.room_id = :room, :room::bigint is null)
                    and coalesce(d.type = any (:kinds::text[]), true)
                    and coalesce(
                        :online = exists (select from device_states o where o.device_id = d.id and o.online),
                        true
                    )
                    and (
                        :battery_below::integer is null
                        or exists (
                            select from device_states o where o.device_id = d.id and o.battery_level < :battery_below
                        )
                    )
                    and (
                        :last_seen_before::timestamptz is null
                        or not exists (
                            select from device_states o where o.device_id = d.id and o.last_seen_at >= :last_seen_before
                        )
                    )
                    and coalesce(
                        strpos(fold_case(concat_ws(' ', d.name, d.key, d.mac_address)), (select fold_case(:search))) > 0,
                        true
                    )
                else true
            end
        order by d.id
        limit :limit
    ) d
    left join device_states s on s.device_id = d.id
order by m.home_id, d.id
limit :limit
