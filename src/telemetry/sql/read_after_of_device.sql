-- Between :after and :up_to the home has a limited number of readings: these are read. A comparison of pairs, as in
-- read_after.sql, would read on behind :up_to. `+ 0` keeps the index of the device's readings out of the plan: with it
-- PostgreSQL reads the device's past too, in each month.
select
    t.id, t.home_id, t.device_id, t.recorded_at, t.received_at, t.device_clock,
    t.current, t.gas_ppm, t.flame, t.bin_level, t.power_w, t.energy_kwh, t.voltage_v, t.current_a, t.frequency_hz,
    t.power_factor, t.distance_cm, t.temperature, t.humidity,
    t.firmware_version, t.signal_strength, t.battery_level, t.extra
from telemetry t
where t.home_id = :home::bigint
    and t.id > :after::bigint
    and t.id <= :up_to::bigint
    and t.device_id + 0 = :device::bigint
order by t.id
limit :limit::bigint
