-- The rows are compared as pairs: with `home_id = :home` PostgreSQL expects few rows after the cursor, and where there
-- are many months, also empty ones, it reads and sorts all that follow.
select
    t.id, t.home_id, t.device_id, t.recorded_at, t.received_at, t.device_clock,
    t.current, t.gas_ppm, t.flame, t.bin_level, t.power_w, t.energy_kwh, t.voltage_v, t.current_a, t.frequency_hz,
    t.power_factor, t.distance_cm, t.temperature, t.humidity,
    t.firmware_version, t.signal_strength, t.battery_level, t.extra
from telemetry t
where (t.home_id, t.id) > (:home::bigint, :after::bigint)
    and (t.home_id, t.id) <= (:home::bigint, 9223372036854775807)
order by t.home_id, t.id
limit :limit::bigint
