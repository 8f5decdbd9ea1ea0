-- A page of devices as devices/sql/page_devices.sql reads it, each with its newest reading since :since: one descent into
-- the primary key per device, and earlier months are not opened. Of readings with the same time all are returned, up to
-- :max_ties, because a sort by id for each device costs as much as the descent. The homes come first and once (`offset 0`):
-- without statistics a plan looks one up for each device.
select
    d.id, d.home_id, m.home_key, d.key, d.name, d.mac_address, d.type, d.room_id, d.created_at,
    coalesce(s.online, false), s.online_changed_at, s.last_seen_at, s.firmware_version, s.signal_strength,
    s.battery_level, coalesce(s.metadata, '{}'),
    case when :with_reported::boolean then s.reported end, s.reported_at, coalesce(s.shed_messages, 0), s.last_shed_at,
    s.home_segment, s.device_segment,
    m.user_id, m.home_id, m.role, m.scopes,
    t.id, t.recorded_at, t.received_at, t.device_clock,
    t.current, t.gas_ppm, t.flame, t.bin_level, t.power_w, t.energy_kwh, t.voltage_v, t.current_a, t.frequency_hz,
    t.power_factor, t.distance_cm, t.temperature, t.humidity,
    case when :health::boolean then t.firmware_version end, case when :health::boolean then t.signal_strength end,
    case when :health::boolean then t.battery_level end, case when :health::boolean then t.extra end
from (
        select m.*, h.key as home_key
        from memberships m
            join homes h on h.id = m.home_id
        where m.user_id = :viewer
            and m.home_id = any (:homes::bigint[])
        offset 0
    ) m
    cross join lateral (
        select d.*
        from filtered_devices(
                m.home_id, m.device_ids, :is_filtered, :room, :kinds, :online, :battery_below, :last_seen_before, :search
            ) d
        where d.id > :after
        order by d.id
        limit :limit
    ) d
    left join device_states s on s.device_id = d.id
    left join lateral (
        select *
        from (
            select *
            from telemetry
            where device_id = d.id
                and recorded_at >= :since::timestamptz
            order by recorded_at desc
            fetch first 1 row with ties
        ) newest
        limit :max_ties::bigint
    ) t on true
