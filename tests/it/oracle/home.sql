-- Two homes with fixed data of every kind. The first registered user owns home 11 and is a guest of home 12, the
-- second one the other way round, the third is a member of both. Broker and devices are absent, so nothing changes.
create table telemetry_rest partition of telemetry default;

create temporary table person as
select id, row_number() over (order by id) as number from users where home_id is null;

insert into homes (id, key, name, timezone, created_at) values
    (11, 'oracle', 'The "first" home', 'Europe/Berlin', '2026-01-02 03:04:05.678Z'),
    (12, 'other', 'Zweites Zuhause 🏡', 'UTC', '2026-02-03 04:05:06.789123Z');

insert into memberships (home_id, user_id, role, joined_at)
select home, id, role, '2026-03-01 00:00:00Z'::timestamptz + make_interval(hours => home + number::integer)
from person, (values (11, 1, 'OWNER'), (11, 2, 'GUEST'), (11, 3, 'MEMBER'), (12, 1, 'GUEST'), (12, 2, 'OWNER'),
    (12, 3, 'ADMIN')) as role (home, person, role)
where number = person;

insert into rooms (id, home_id, name) overriding system value values
    (21, 11, 'Kitchen'), (22, 11, 'Küche 🛏 \ "2"'), (23, 11, 'attic'), (24, 12, 'Kitchen'), (25, 12, 'Empty');

insert into devices (id, home_id, key, name, type, room_id, mac_address, created_at)
select id, home, key, name, type, room, mac, '2026-04-01 12:00:00Z'::timestamptz + make_interval(secs => id * 1.25)
from (values
    (101, 11, 'lamp_1', 'Lamp 🛏', 'LIGHT', 21, '24:6F:28:00:00:01'),
    (102, 11, 'lamp_2', 'Lamp "two"', 'LIGHT', 21, null),
    (103, 11, 'fan', 'Fan', 'FAN', 22, '24:6F:28:00:00:03'),
    (104, 11, 'front-door', 'Tür', 'DOOR', 22, '24:6F:28:00:00:04'),
    (105, 11, 'plug', 'A plug', 'PLUG', null, null),
    (106, 11, 'node', 'Node', 'SENSOR_NODE', 23, '24:6F:28:00:00:06'),
    (107, 11, 'meter', 'Meter', 'POWER_METER', null, '24:6F:28:00:00:07'),
    (108, 11, 'silent', 'Never heard of', 'OTHER', null, null),
    (109, 12, 'lamp_1', 'Another lamp', 'LIGHT', 24, '24:6F:28:00:00:01'),
    (110, 12, 'bell', 'Bell', 'BELL', null, null)
) as device (id, home, key, name, type, room, mac);

insert into device_states (device_id, online, online_changed_at, last_seen_at, firmware_version, signal_strength,
    battery_level, metadata, reported, reported_at, shed_messages, last_shed_at)
select id, id % 2 = 1, '2026-05-01 00:00:00Z'::timestamptz + make_interval(secs => id * 0.001),
    '2026-05-02 00:00:00Z'::timestamptz + make_interval(secs => id), case when id % 3 <> 0 then '1.' || id end,
    case when id % 4 <> 0 then -id / 2.0 end, case when id % 5 <> 0 then id - 90 end,
    jsonb_build_object('lastStatus', jsonb_build_object('n', id, 'text', 'ä"\', ' ', array[1, 2])),
    case when id % 4 <> 2 then jsonb_build_object('power', id % 2 = 0, 'ü', array[id]) end,
    case when id % 4 <> 2 then '2026-05-04 00:00:00Z'::timestamptz + make_interval(secs => id * 0.001) end,
    case when id = 103 then 5000000000 else id % 3 end, case when id = 103 then '2026-05-03 00:00:00Z'::timestamptz end
from devices where id <> 108;

-- The values of a reading are functions of its number, and no two numbers share one: a row made of two readings shows.
insert into telemetry (home_id, device_id, recorded_at, received_at, dedup, device_clock, current, gas_ppm, flame,
    bin_level, power_w, energy_kwh, temperature, humidity, firmware_version, signal_strength, battery_level, extra)
select home_id, id, '2026-06-01 00:00:00Z'::timestamptz + make_interval(mins => n, secs => n * 0.001 + id * 0.0001),
    '2026-06-01 00:00:02Z'::timestamptz + make_interval(mins => n), n, n % 3 <> 0,
    n * 1e-7, n * 1e20, n % 2 = 0, case when n % 3 = 0 then n + 0.5 end, n, n * 1000000.25, n / 7.0, -n,
    case when n % 2 = 0 then '1.' || n end, case when n % 3 = 1 then -n end, case when n % 4 = 1 then n end,
    case when n % 3 <> 2 then jsonb_build_object('n', n, 'note', 'ü ' || n, ' ', jsonb_build_object(' ', n, '', null)) end
from devices, generate_series(1, 30) as n
where id <> 108 and n <= (id - 100) * 4
order by n, id;

insert into commands (id, home_id, device_id, type, payload, source, correlation_id, on_stale, expect, status, result,
    error, confirmed_by, superseded_by, requested_by, timeout_seconds, created_at, sent_at, acked_at, finished_at,
    expires_at, deadline)
select ('00000000-0000-4000-8000-' || lpad((device * 100 + n)::text, 12, '0'))::uuid, home_id, device,
    case when n % 2 = 0 then 'SET_POWER' else 'x.y:z' end,
    json_build_object('z', n, ' ', json_build_object(' ', 'ä'), '', null), case when n = 3 then 'INTEGRATION' else 'USER' end,
    'c' || n, case when n % 2 = 0 then 'SUPERSEDE' else 'EXPIRE' end, case when n = 4 then '{"powerW": {"min": 5}}'::json end,
    status, case when n = 4 then '{"b": 1, " ": [{" ": null}]}'::json end, case when status = 'FAILED' then 'no "power"' end,
    case n when 4 then 'EFFECT' when 5 then 'ACK' end,
    case when n = 8 then ('00000000-0000-4000-8000-' || lpad((device * 100 + 4)::text, 12, '0'))::uuid end,
    (select id from person where number = 1 + n % 3), n * 10, '2026-07-01 00:00:00Z'::timestamptz + make_interval(secs => n),
    case when n between 2 and 6 then '2026-07-01 00:01:00Z'::timestamptz end,
    case when n between 3 and 5 then '2026-07-01 00:02:00.5Z'::timestamptz end,
    case when n > 3 then '2026-07-01 00:03:00.000001Z'::timestamptz end,
    '2126-07-01 00:00:00Z', case when n <= 3 then '2126-07-01 00:00:00Z'::timestamptz end
from unnest(array['PENDING', 'SENT', 'ACKED', 'SUCCEEDED', 'FAILED', 'TIMED_OUT', 'EXPIRED', 'CANCELLED'])
    with ordinality as state (status, n), unnest(array[101, 103, 109]) as device, devices
where devices.id = device
order by device, n;

insert into device_configs (device_id, version, home_id, config, status, errors, created_by, created_at, sent_at,
    applied_at, updated_at)
select device, version, home_id, json_build_object('sampleRate', version * 10, ' ', array[1], 'a', null),
    case version when 1 then 'SUPERSEDED' when 2 then 'REJECTED' else 'APPLIED' end,
    case when version = 2 then '{"sampleRate": "too \"low\""}'::json end,
    (select id from person where number = version), '2026-08-01 00:00:00Z'::timestamptz + make_interval(secs => version),
    case when version > 1 then '2026-08-02 00:00:00Z'::timestamptz end,
    case when version = 3 then '2026-08-03 00:00:00Z'::timestamptz end, '2026-08-03 00:00:00Z'
from generate_series(1, 3) as version, unnest(array[101, 104, 110]) as device, devices
where devices.id = device;

insert into invitations (home_id, email, role, token_hash, invited_by, created_at, expires_at)
select home, lower(role) || home || '@oracle.example', role, sha256(convert_to(role || home, 'UTF8')), id,
    '2026-09-01 00:00:00Z', '2126-09-01 00:00:00Z'
from person, unnest(array[11, 12]) as home, unnest(array['GUEST', 'ADMIN']) as role
where number = case home when 11 then 1 else 2 end;

with machine as (
    insert into users (email, name, password_hash, home_id)
    select 'machine' || id || '@integration.invalid', 'Machine ' || id, '!', id from homes returning id, home_id
), place as (
    insert into memberships (home_id, user_id, role, scopes) select home_id, id, 'GUEST', 7 from machine
)
insert into integration_tokens (id, user_id, home_id, name, scopes, device_ids, created_by, created_at, expires_at)
select ('00000000-0000-4000-8000-' || lpad(machine.id::text, 12, '0'))::uuid, machine.id, home_id, 'Machine', 7,
    case home_id when 11 then array[101, 103] end, person.id, '2026-09-01 00:00:00Z', '2126-09-01 00:00:00Z'
from machine, person where number = case home_id when 11 then 1 else 2 end;

insert into audit_log (at, home_id, actor_kind, actor_id, actor, address, action, target, details)
select '2026-10-01 00:00:00Z'::timestamptz + make_interval(secs => n), home, 'SESSION', id, 'person ' || number,
    case when n % 2 = 0 then '192.0.2.' || n end, 'home.update', 'home ' || home,
    json_build_object('name', json_build_object('old', n, 'new', 'ü'))
from generate_series(1, 6) as n, unnest(array[11, 12]) as home, person
where number = 1 + n % 3
order by n;

insert into rejected_messages (home_id, topic, reason, payload_preview, received_at)
select home, 'smarthome/' || home || '/x/telemetry', 'BAD_JSON', '{"' || n || E'\n',
    '2026-10-02 00:00:00Z'::timestamptz + make_interval(secs => n)
from generate_series(1, 5) as n, unnest(array[11, 12]) as home
order by n;
