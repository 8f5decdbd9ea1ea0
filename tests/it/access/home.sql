-- One home with something of everything. $1 key and word in every name, $2 members, $3 their roles,
-- $4 and $5 ids of commands, $6 what begins e-mails of invitations.
with home as (
    insert into homes (key, name) values ($1, $1) returning id
), members as (
    insert into memberships (home_id, user_id, role)
    select home.id, member.id, member.role from home, unnest($2::bigint[], $3::text[]) as member (id, role)
), room as (
    insert into rooms (home_id, name) select id, $1 || ' room' from home returning id
), device as (
    insert into devices (home_id, key, name, type, room_id, mac_address)
    select home.id, key, $1 || ' ' || key, 'LIGHT', room.id, mac
    from home, room, (values ('lamp', '24:6F:28:00:00:01'), ('other', '24:6F:28:00:00:02')) as new (key, mac)
    returning id, key
), lamp as (
    select id from device where key = 'lamp'
), other as (
    select id from device where key = 'other'
), state as (
    insert into device_states (device_id, metadata, reported, reported_at)
    select id, jsonb_build_object('lastStatus', $1), jsonb_build_object('note', $1), now() from device
), reading as (
    insert into telemetry (home_id, device_id, recorded_at, received_at, dedup, device_clock, temperature, extra)
    select home.id, lamp.id, now() - make_interval(mins => ago), now(), ago, true, 21, jsonb_build_object('note', $1)
    from home, lamp, generate_series(1, 2) as ago order by ago desc
    returning id
), command as (
    insert into commands (id, home_id, device_id, type, payload, source, correlation_id, on_stale, status, superseded_by,
        requested_by, timeout_seconds, created_at, finished_at, expires_at)
    select new.id, home.id, lamp.id, 'RESET', json_build_object('note', $1), 'USER', 'c', 'EXPIRE', 'CANCELLED',
        $4::text::uuid, ($2::bigint[])[1], 30, now(), now(), now()
    from home, lamp, unnest(array[$4, $5]::text[]::uuid[]) as new (id)
), config as (
    insert into device_configs (device_id, version, home_id, config, status, created_by, created_at, updated_at)
    select lamp.id, version, home.id, json_build_object('note', $1), 'APPLIED', ($2::bigint[])[1], now(), now()
    from home, lamp, generate_series(1, 2) as version
), rejected as (
    insert into rejected_messages (home_id, topic, reason, payload_preview, received_at)
    select home.id, $1, 'BAD_JSON', $1, now() from home, generate_series(1, 2)
), machine as (
    insert into users (email, name, password_hash, home_id)
    select lower($1) || '@integration.invalid', $1, '!', home.id from home returning id
), place as (
    insert into memberships (home_id, user_id, role, scopes) select home.id, machine.id, 'GUEST', 1 from home, machine
), integration as (
    insert into integration_tokens (id, user_id, home_id, name, scopes, created_by)
    select gen_random_uuid(), machine.id, home.id, $1, 1, ($2::bigint[])[1] from home, machine
    returning id
), entry as (
    insert into audit_log (home_id, actor_kind, actor_id, actor, action, target, details)
    select home.id, 'SESSION', ($2::bigint[])[1], $1, 'home.create', $1, '{}' from home, generate_series(1, 2)
), invitation as (
    insert into invitations (home_id, email, role, token_hash, invited_by, expires_at)
    select home.id, lower($6 || role || '@test.example'), role, sha256(convert_to($1 || role, 'UTF8')),
        ($2::bigint[])[1], now() + interval '1 day'
    from home, (values ('GUEST'), ('OWNER')) as new (role)
    returning id, role
)
select home.id, room.id, lamp.id, other.id, (select min(id) from reading), i.id, o.id,
    (select id::text from integration)
from home, room, lamp, other, invitation i, invitation o
where i.role = 'GUEST' and o.role = 'OWNER'
