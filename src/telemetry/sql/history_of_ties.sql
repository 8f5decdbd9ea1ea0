-- As history.sql, for devices with many readings of one time where the page ends. The inner query stops in the order of
-- the primary key, and only what it found is sorted by time and id. One query with both would let a plan sort all
-- readings of a device, if most devices have few.
select
    t.id, t.home_id, t.device_id, t.recorded_at, t.received_at, t.device_clock,
    t.current, t.gas_ppm, t.flame, t.bin_level, t.power_w, t.energy_kwh, t.voltage_v, t.current_a, t.frequency_hz,
    t.power_factor, t.distance_cm, t.temperature, t.humidity,
    case when :health::boolean then t.firmware_version end, case when :health::boolean then t.signal_strength end,
    case when :health::boolean then t.battery_level end, case when :health::boolean then t.extra end
from unnest(:devices::bigint[]) wanted (id)
cross join lateral (
    select *
    from (
        select *
        from telemetry
        where device_id = wanted.id
            and recorded_at >= :from_at::timestamptz
            and recorded_at < :to_at::timestamptz
            and (recorded_at, id) < (:after_at::timestamptz, :after_id::bigint)
        order by recorded_at desc
        fetch first (:limit::bigint) rows with ties
    ) newest
    order by recorded_at desc, id desc
    limit :limit::bigint
) t
