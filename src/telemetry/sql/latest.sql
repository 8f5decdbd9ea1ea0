-- One descent into the primary key per device, whatever the number of partitions. Of readings with the same time the
-- last one that was committed.
select
    t.id, t.home_id, t.device_id, t.recorded_at, t.received_at, t.device_clock,
    t.current, t.gas_ppm, t.flame, t.bin_level, t.power_w, t.energy_kwh, t.voltage_v, t.current_a, t.frequency_hz,
    t.power_factor, t.distance_cm, t.temperature, t.humidity,
    t.firmware_version, t.signal_strength, t.battery_level, t.extra
from unnest(:devices::bigint[]) wanted (id)
cross join lateral (
    select *
    from (
        select *
        from telemetry
        where device_id = wanted.id
        order by recorded_at desc
        fetch first 1 row with ties
    ) newest
    order by id desc
    limit 1
) t
