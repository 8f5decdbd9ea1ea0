-- What a server of version 0.1.0 has stored: a row or more in each table.
insert into users (email, name, password_hash) values ('ann@example.com', 'Ann', '!'), ('bob@example.com', 'Bob', '!');
insert into refresh_tokens (user_id, family, token_hash, expires_at, used_at)
values (1, gen_random_uuid(), sha256('used'), now() + interval '30 days', now()),
    (1, gen_random_uuid(), sha256('unused'), now() + interval '30 days', null);
insert into homes (key, name) values ('main', 'Main'), ('second', 'Second');
insert into memberships (home_id, user_id, role) values (1, 1, 'OWNER'), (1, 2, 'MEMBER'), (2, 2, 'OWNER');
insert into rooms (home_id, name) values (1, 'Küche'), (1, 'Hall');
insert into devices (home_id, key, name, type, room_id)
values (1, 'lamp', 'Lamp', 'LIGHT', 1), (1, 'fan', 'Fan', 'FAN', null), (2, 'door', 'Door', 'DOOR', null);
insert into device_credentials (device_id, secret_hash) select id, sha256(key::bytea) from devices;
insert into mqtt_clients (username, credential_id, changed_at) values ('main/lamp', 1, now());
insert into device_states (device_id, online, last_seen_at, firmware_version, home_segment, device_segment, away)
values (1, true, now(), '1.0', 'main', 'lamp', false), (2, false, now(), '1.0', 'main', 'fan', true);

create table telemetry_2026_10 partition of telemetry for values from ('2026-10-01 00:00:00Z') to ('2026-11-01 00:00:00Z');
create table telemetry_2026_11 partition of telemetry for values from ('2026-11-01 00:00:00Z') to ('2026-12-01 00:00:00Z');
insert into telemetry (home_id, device_id, recorded_at, received_at, dedup, device_clock, temperature, extra)
select 1, 1 + g % 2, timestamptz '2026-10-20 00:00:00Z' + g * interval '1 hour', now(), g, true, g, '{"n": 1}'
from generate_series(0, 499) g;

insert into commands (
    id, home_id, device_id, type, payload, source, correlation_id, on_stale, status, requested_by, timeout_seconds,
    created_at, handed_at, unheard, sent_at, finished_at, expires_at, deadline
)
values
    (gen_random_uuid(), 1, 1, 'BEEP', '{}', 'USER', 'succeeded', 'EXPIRE', 'SUCCEEDED', 1, 30, now(), now(), false, now(), now(), now(), null),
    (gen_random_uuid(), 1, 2, 'BEEP', '{}', 'USER', 'pending', 'EXPIRE', 'PENDING', 1, 30, now(), null, false, null, null, now() + interval '1 day', now() + interval '1 day'),
    (gen_random_uuid(), 2, 3, 'BEEP', '{}', 'USER', 'unheard', 'EXPIRE', 'TIMED_OUT', 2, 30, now(), now(), true, now(), now(), now() + interval '1 day', null);
insert into device_configs (device_id, version, home_id, config, status, created_by, created_at, sent_at, applied_at, updated_at)
values (1, 1, 1, '{"sampleRate": 10}', 'SUPERSEDED', 1, now(), now(), null, now()),
    (1, 2, 1, '{"sampleRate": 20}', 'APPLIED', 1, now(), now(), now(), now());
insert into retained_configs (device_id, home_segment, device_segment, version, is_lost, confirmed_at)
values (1, 'main', 'lamp', 2, false, now());
insert into retained_clearings (device_id, home_segment, device_segment) values (99, 'main', 'gone');
insert into invitations (home_id, email, role, token_hash, invited_by, expires_at)
values (1, 'carl@example.com', 'GUEST', sha256('invitation'), 1, now() + interval '7 days');
insert into revocations (session_id) values (gen_random_uuid());
insert into rejected_messages (home_id, topic, reason, payload_preview, received_at)
values (1, 'smarthome/main/lamp/telemetry', 'NOT_JSON', '{', now());
insert into mqtt_deliveries (client_id, packet_ids, digests) values ('smarthome-old', '{1, 2}', '{10, 20}');
insert into broker_sessions (client_id, since) values ('smarthome-old', now());
insert into audit_log (home_id, actor_kind, actor_id, actor, action, target, details)
values (1, 'SESSION', 1, 'ann@example.com', 'device.register', 'Lamp', '{}');
insert into outside_identities (issuer, subject, user_id, created_at) values ('https://issuer.example', 'ann', 1, now());
insert into deletions (home_id) values (98);
