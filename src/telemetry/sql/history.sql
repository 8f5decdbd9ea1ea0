-- One descent into the primary key per device, each newest first. The bounds are always given, so that the plan can use
-- them.
select
    t.id, t.home_id, t.device_id, t.recorded_at, t.received_at, t.device_clock,
    t.current, t.gas_ppm, t.flame, t.bin_level, t.power_w, t.energy_kwh, t.voltage_v, t.current_a, t.frequency_hz,
    t.power_factor, t.distance_cm, t.temperature, t.humidity,
    t.firmware_version, t.signal_strength, t.battery_level, t.extra
from unnest(:devices::bigint[]) wanted (id)
cross join lateral (
    select *
    from telemetry
    where device_id = wanted.id
        and recorded_at >= :from_at::timestamptz
        and recorded_at < :to_at::timestamptz
        and (recorded_at, id) < (:after_at::timestamptz, :after_id::bigint)
    order by recorded_at desc, id desc
    limit :limit::bigint
) t
