-- Rows come back in the order in which the readings are given. A reading that is parked already, or whose device is
-- deleted, is left out.
insert into parked_readings (
    home_id, device_id, recorded_at, received_at, dedup, device_clock,
    current, gas_ppm, flame, bin_level, power_w, energy_kwh, voltage_v, current_a, frequency_hz,
    power_factor, distance_cm, temperature, humidity,
    firmware_version, signal_strength, battery_level, extra, metadata, reason
)
select
    n.home_id, n.device_id, n.recorded_at, n.received_at, n.dedup, n.device_clock,
    n.current, n.gas_ppm, n.flame, n.bin_level, n.power_w, n.energy_kwh, n.voltage_v, n.current_a, n.frequency_hz,
    n.power_factor, n.distance_cm, n.temperature, n.humidity,
    n.firmware_version, n.signal_strength, n.battery_level, n.extra, n.metadata, n.reason
from unnest(
    :home_ids::bigint[],
    :device_ids::bigint[],
    :recorded_at::timestamptz[],
    :received_at::timestamptz[],
    :dedups::bigint[],
    :device_clocks::boolean[],
    :current::double precision[],
    :gas_ppm::double precision[],
    :flame::boolean[],
    :bin_level::double precision[],
    :power_w::double precision[],
    :energy_kwh::double precision[],
    :voltage_v::double precision[],
    :current_a::double precision[],
    :frequency_hz::double precision[],
    :power_factor::double precision[],
    :distance_cm::double precision[],
    :temperature::double precision[],
    :humidity::double precision[],
    :firmware_versions::text[],
    :signal_strengths::double precision[],
    :battery_levels::double precision[],
    :extras::jsonb[],
    :metadatas::jsonb[],
    :reasons::text[]
) with ordinality n (
    home_id, device_id, recorded_at, received_at, dedup, device_clock,
    current, gas_ppm, flame, bin_level, power_w, energy_kwh, voltage_v, current_a, frequency_hz,
    power_factor, distance_cm, temperature, humidity,
    firmware_version, signal_strength, battery_level, extra, metadata, reason, position
)
where exists (select from devices d where d.id = n.device_id and d.home_id = n.home_id)
order by n.position
on conflict do nothing
returning id, device_id, dedup
