-- Up to :limit devices of each home that the viewer sees and that pass the filter, by id, after the device :after.
-- A filter that is null passes every device, so one prepared statement serves all filters. Without any, :is_filtered
-- is false and nothing is evaluated per device.
select
    d.id, d.home_id, h.key, d.key, d.name, d.mac_address, d.type, d.room_id, d.created_at,
    coalesce(s.online, false), s.online_changed_at, s.last_seen_at, s.firmware_version, s.signal_strength,
    s.battery_level, coalesce(s.metadata, '{}'),
    case when :with_reported::boolean then s.reported end, s.reported_at, coalesce(s.shed_messages, 0), s.last_shed_at,
    s.home_segment, s.device_segment,
    m.user_id, m.home_id, m.role, m.scopes
from memberships m
    join homes h on h.id = m.home_id
    cross join lateral (
        select d.*
        from devices d
        where d.home_id = m.home_id
            and sees_device(m.device_ids, d.id)
            and d.id > :after
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
where m.user_id = :viewer
    and m.home_id = any (:homes::bigint[])
order by d.home_id, d.id
