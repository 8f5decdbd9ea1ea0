-- One descent into the primary key per device, each newest first. The bounds are always given, so that the plan can use
-- them. The primary key does not end with the id, so those with the time of the last one are returned too, up to
-- :max_rows of a device: to sort them here by id costs a fifth of the statement. Without :health, four columns are
-- empty: to send a column costs more than to find the row.
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
    limit :max_rows::bigint
) t
