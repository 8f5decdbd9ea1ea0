-- As insert.sql for a batch of one reading: without arrays it takes half of the time.
insert into telemetry (
    home_id, device_id, recorded_at, received_at, dedup, device_clock,
    current, gas_ppm, flame, bin_level, power_w, energy_kwh, voltage_v, current_a, frequency_hz,
    power_factor, distance_cm, temperature, humidity,
    firmware_version, signal_strength, battery_level, extra, metadata
)
select
    :home_id::bigint,
    :device_id::bigint,
    :recorded_at::timestamptz,
    :received_at::timestamptz,
    :dedup::bigint,
    :device_clock::boolean,
    :current::double precision,
    :gas_ppm::double precision,
    :flame::boolean,
    :bin_level::double precision,
    :power_w::double precision,
    :energy_kwh::double precision,
    :voltage_v::double precision,
    :current_a::double precision,
    :frequency_hz::double precision,
    :power_factor::double precision,
    :distance_cm::double precision,
    :temperature::double precision,
    :humidity::double precision,
    :firmware_version::text,
    :signal_strength::double precision,
    :battery_level::double precision,
    :extra::jsonb,
    :metadata::jsonb
where exists (select from devices d where d.id = :device_id::bigint and d.home_id = :home_id::bigint)
on conflict do nothing
returning id, device_id, dedup
