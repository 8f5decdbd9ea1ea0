-- A device that :viewer sees, and a page of its readings as history.sql reads it: first a row of the device, then one of
-- each reading. What only some rows or selections have is a record, because each empty column costs something in every
-- row. The device is looked up by its id, once.
with device as materialized (
    select
        d.id, d.home_id, h.key as home_key, d.key, d.name, d.mac_address, d.type, d.room_id, d.created_at,
        m.user_id, m.role, m.scopes
    from devices d
        join memberships m on m.home_id = d.home_id
        join homes h on h.id = d.home_id
    where d.id = :device
        and m.user_id = :viewer
        and sees_device(m.device_ids, d.id)
)
select
    row(
        row(d.id, d.home_id, d.home_key, d.key, d.name, d.mac_address, d.type, d.room_id, d.created_at),
        row(d.user_id, d.home_id, d.role, d.scopes)
    ),
    null, null, null, null,
    null, null, null, null, null, null, null, null, null,
    null, null, null, null,
    null
from device d
union all
select
    null,
    t.id, t.recorded_at, t.received_at, t.device_clock,
    t.current, t.gas_ppm, t.flame, t.bin_level, t.power_w, t.energy_kwh, t.voltage_v, t.current_a, t.frequency_hz,
    t.power_factor, t.distance_cm, t.temperature, t.humidity,
    case when :health::boolean then row(t.firmware_version, t.signal_strength, t.battery_level, t.extra) end
from device d
cross join lateral (
    select *
    from (
        select *
        from telemetry
        where device_id = d.id
            and recorded_at >= :from_at::timestamptz
            and recorded_at < :to_at::timestamptz
            and (recorded_at, id) < (:after_at::timestamptz, :after_id::bigint)
        order by recorded_at desc
        fetch first (:limit::bigint) rows with ties
    ) newest
    limit :max_rows::bigint
) t
