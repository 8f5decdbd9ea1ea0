-- Readings of months that do not take them: the month's table can't be created or attached, or it refuses every row.
create table parked_readings (
    id               bigint           generated always as identity primary key,
    home_id          bigint           not null,
    device_id        bigint           not null,
    recorded_at      timestamptz      not null,
    received_at      timestamptz      not null,
    dedup            bigint           not null,
    device_clock     boolean          not null,
    current          double precision,
    gas_ppm          double precision,
    flame            boolean,
    bin_level        double precision,
    power_w          double precision,
    energy_kwh       double precision,
    voltage_v        double precision,
    current_a        double precision,
    frequency_hz     double precision,
    power_factor     double precision,
    distance_cm      double precision,
    temperature      double precision,
    humidity         double precision,
    firmware_version text,
    signal_strength  double precision,
    battery_level    double precision,
    extra            jsonb,
    metadata         jsonb,
    reason           text             not null,
    parked_at        timestamptz      not null default clock_timestamp(),
    unique (device_id, recorded_at, dedup)
);
create index parked_readings_order on parked_readings (recorded_at, id);
create index parked_readings_home on parked_readings (home_id, id);

comment on table parked_readings is 'Readings that are acknowledged, of months that do not take them. The server moves them into telemetry, with new ids, when their month takes readings again. As telemetry it has no foreign keys: inserts check the device behind the ingest lock, and deletions purge it.';
comment on column parked_readings.id is 'The order of receipt among readings with the same recorded_at. The reading gets its cursor when it is moved.';
comment on column parked_readings.reason is 'Why its month did not take it.';
