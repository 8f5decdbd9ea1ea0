-- Rows of every kind of value: the first device has states and readings, the others lack some of them.
update devices set mac_address = '24:6F:28:AA:BB:CC', name = E'a "quoted"\\ name \u00e9\u2028\U0001F6CF' where id = :device;
insert into rooms (home_id, name, created_at) values (:home, 'Room', now());
update devices set room_id = (select max(id) from rooms where home_id = :home) where home_id = :home and id <= :device + 1;

insert into device_states (
    device_id, online, online_changed_at, last_seen_at, firmware_version, signal_strength, battery_level, metadata,
    reported, reported_at, home_segment, device_segment, shed_messages, last_shed_at
)
values
    (
        :device, true, '2026-01-01T00:00:00.000001Z', '2026-01-01T00:00:00Z', E'v1\t\u0001', -61.5, 1e300,
        '{"lastStatus": {"b": [1, 2.50, 1e5, -0.0, 18446744073709551616], "a": "\u00e9\u007f", "": null}}',
        '{"power": true, "c": {"": [1.50, null]}}', '2026-01-03T00:00:00.25Z', 'H', 'D', 99999999999, '1970-01-01T00:00:00.5Z'
    ),
    (:device + 1, false, null, null, null, null, null, '{}', null, null, null, null, 0, null);

insert into telemetry (
    home_id, device_id, recorded_at, received_at, dedup, device_clock, temperature, humidity, gas_ppm, flame,
    firmware_version, signal_strength, battery_level, extra
)
select
    :home, :device + n % 2, '2026-01-01Z'::timestamptz + make_interval(secs => n * 0.000501), '2026-01-02Z', n,
    n % 2 = 0,
    (array[0, -0.0, 5e-324, 1.7976931348623157e308, 'NaN', 'Infinity', 0.1, 1e21, 123456789.125, null])[1 + n % 10],
    (array[1, 1e-7, 100, null])[1 + n % 4],
    n,
    (array[true, false, null])[1 + n % 3],
    (array['1.0', '', E'"\\/\n', null])[1 + n % 4],
    n / 3.0,
    null,
    (array['{"co2": 612}', '{"z": 1.50, "aa": {"y": [], "x": [{}, "t\u2028"]}}', '{}', null]::jsonb[])[1 + n % 4]
from generate_series(1, 24) n;
