-- A batch of one reading: the ingest lock (`locks::TAKE_INGEST`), the reading and its packet. The statement is a transaction
-- of its own. Returns whether the device was found; nothing is written otherwise.
with locked as materialized (
    select pg_advisory_xact_lock(7002, hashtext(current_schema()))
),
-- The statement does not see what is committed while it waits for the ingest lock. But PostgreSQL finds no row to lock here
-- if the device was deleted meanwhile. A row that another transaction has locked, because it changes the MAC address, is
-- left out too: the caller tries again with a transaction.
device as materialized (
    select d.id, d.home_id
    from locked, devices d
    where d.id = :device_id::bigint and d.home_id = :home_id::bigint
    for key share of d skip locked
),
reading as (
    insert into telemetry (
        home_id, device_id, recorded_at, received_at, dedup, device_clock,
        current, gas_ppm, flame, bin_level, power_w, energy_kwh, voltage_v, current_a, frequency_hz,
        power_factor, distance_cm, temperature, humidity,
        firmware_version, signal_strength, battery_level, extra, metadata
    )
    select
        device.home_id,
        device.id,
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
    from device
    on conflict do nothing
    returning id
),
packet as (
    insert into committed_packets (client_id, packet_ids, digests)
    select :client_id::text, array[:packet_id::integer], array[:digest::bigint]
    from device
    where :packet_id::integer is not null
    returning id
)
select
    exists (select from device) as is_found,
    (select id from reading) as reading,
    (select id from packet) as packets_row
