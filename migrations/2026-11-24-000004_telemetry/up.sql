create sequence telemetry_id_seq;

-- No foreign key to devices: its trigger would double the cost of a row. Who deletes a device takes
-- the ingest gate (pg_advisory_xact_lock) first, and the insert joins devices behind the same gate.
create table telemetry (
    id               bigint           not null default nextval('telemetry_id_seq'),
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
    primary key (device_id, recorded_at, dedup)
) partition by range (recorded_at);
alter sequence telemetry_id_seq owned by telemetry.id;
create index telemetry_cursor on telemetry (home_id, id);

comment on table telemetry is 'One row per telemetry message. Partitions are months in UTC, made by the server when first needed.';
comment on column telemetry.id is 'Cursor: taken behind the ingest gate, so its order is the order of commits.';
comment on column telemetry.recorded_at is 'Effective time: the device''s clock where it has one, else the receipt.';
comment on column telemetry.dedup is 'Digest of the payload where the device has a clock, else unique per receipt: a device''s resend is one row, two equal messages without a clock are two.';
comment on column telemetry.device_clock is 'Whose clock gave recorded_at: true the device''s, false the server''s.';
comment on column telemetry.extra is 'Readings the schema does not know.';
comment on column telemetry.metadata is 'Metadata beside firmware, signal and battery, e.g. freeMemory.';
