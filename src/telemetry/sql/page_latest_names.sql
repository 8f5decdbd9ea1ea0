-- As page_latest_without_states.sql for selections that need no more of a device than its ids and names, of all devices:
-- without the columns and without the filter, which is prepared for each execution, it takes an eighth less time.
select
    d.id, d.home_id, d.key, d.name, m.role, m.scopes,
    t.id, t.recorded_at, t.received_at, t.device_clock,
    t.current, t.gas_ppm, t.flame, t.bin_level, t.power_w, t.energy_kwh, t.voltage_v, t.current_a, t.frequency_hz,
    t.power_factor, t.distance_cm, t.temperature, t.humidity
from (
        select *
        from memberships
        where user_id = :viewer
            and home_id = any (:homes::bigint[])
        offset 0
    ) m
    cross join lateral (
        select *
        from devices
        where home_id = m.home_id
            and id > :after
            and sees_device(m.device_ids, id)
        order by id
        limit :limit
    ) d
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
