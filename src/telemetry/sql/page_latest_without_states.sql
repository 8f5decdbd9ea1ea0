-- As page_latest.sql without the devices' states, for selections without a field of them. A file of its own, because one
-- statement with a parameter that leaves out the join takes a quarter more time.
select
    d.id, d.home_id, h.key, d.key, d.name, d.mac_address, d.type, d.room_id, d.created_at,
    m.user_id, m.home_id, m.role, m.scopes,
    t.id, t.recorded_at, t.received_at, t.device_clock,
    t.current, t.gas_ppm, t.flame, t.bin_level, t.power_w, t.energy_kwh, t.voltage_v, t.current_a, t.frequency_hz,
    t.power_factor, t.distance_cm, t.temperature, t.humidity,
    case when :health::boolean then t.firmware_version end, case when :health::boolean then t.signal_strength end,
    case when :health::boolean then t.battery_level end, case when :health::boolean then t.extra end
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
    left join lateral (
        select *
        from (
            select *
            from telemetry
            where device_id = d.id
            order by recorded_at desc
            fetch first 1 row with ties
        ) newest
        limit :max_ties::bigint
    ) t on true
where m.user_id = :viewer
    and m.home_id = any (:homes::bigint[])
