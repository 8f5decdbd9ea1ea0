-- Moves parked readings into telemetry, in the order of their times: ids are given out in that order. A reading that is
-- stored already, or whose device is deleted, is deleted here and left out there.
with moved as (
    delete from parked_readings
    where id = any (:ids::bigint[])
    returning *
)
insert into telemetry as t (
    home_id, device_id, recorded_at, received_at, dedup, device_clock,
    current, gas_ppm, flame, bin_level, power_w, energy_kwh, voltage_v, current_a, frequency_hz,
    power_factor, distance_cm, temperature, humidity,
    firmware_version, signal_strength, battery_level, extra, metadata
)
select
    n.home_id, n.device_id, n.recorded_at, n.received_at, n.dedup, n.device_clock,
    n.current, n.gas_ppm, n.flame, n.bin_level, n.power_w, n.energy_kwh, n.voltage_v, n.current_a, n.frequency_hz,
    n.power_factor, n.distance_cm, n.temperature, n.humidity,
    n.firmware_version, n.signal_strength, n.battery_level, n.extra, n.metadata
from moved n
where exists (select from devices d where d.id = n.device_id and d.home_id = n.home_id)
order by n.recorded_at, n.id
on conflict do nothing
returning
    t.id, t.home_id, t.device_id, t.recorded_at, t.received_at, t.device_clock,
    t.current, t.gas_ppm, t.flame, t.bin_level, t.power_w, t.energy_kwh, t.voltage_v, t.current_a, t.frequency_hz,
    t.power_factor, t.distance_cm, t.temperature, t.humidity,
    t.firmware_version, t.signal_strength, t.battery_level, t.extra
