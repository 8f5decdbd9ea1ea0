-- Person 1 is a member of homes 1 to 50. Home 1 has 3,000 devices and most of everything; homes 51 to 300 have one device each.
insert into users (email, name, password_hash) select 'person' || n || '@example.com', 'Person', 'x' from generate_series(1, 300) n;
insert into homes (id, key, name) select n, 'home-' || n, 'Home' from generate_series(1, 300) n;
insert into memberships (home_id, user_id, role)
select n, case when n <= 50 then 1 else n end, 'OWNER' from generate_series(1, 300) n;
insert into rooms (home_id, name) select 1, 'Room ' || n from generate_series(1, 100) n;
insert into devices (id, home_id, key, name, type, room_id, mqtt_client_id)
select
    n, case when n <= 3000 then 1 else n - 2999 end, 'device-' || n, 'Device', 'OTHER',
    case when n <= 3000 then (select min(id) + n % 100 from rooms) end, 'client-' || n
from generate_series(1, 3299) n;
insert into device_states (device_id, home_segment, device_segment)
select d.id, h.key, d.key from devices d join homes h on h.id = d.home_id;

-- Device 1 has 1,000 commands that ended; one command waits for each of 300 devices of home 1 and of the 299 last ones; 500
-- were sent a minute ago.
insert into commands (
    id, home_id, device_id, type, payload, source, correlation_id, on_stale, status, timeout_seconds, created_at, sent_at,
    expires_at, deadline, updated_at
)
select
    md5(n::text)::uuid, d.home_id, d.id, 'PING', '{}', 'USER', 'c', 'EXPIRE', s.status, 30, now(),
    case when s.status <> 'PENDING' then now() - interval '1 minute' end, now() + interval '1 day',
    case when s.status <> 'SUCCEEDED' then now() + interval '1 day' end, now() - interval '1 hour'
from generate_series(1, 4000) n,
    lateral (select case when n <= 1000 then 1 when n <= 1300 then n - 1000 when n <= 1599 then n + 1700 else n - 1000 end) wanted (id)
    join devices d on d.id = wanted.id,
    lateral (select case when n <= 1000 then 'SUCCEEDED' when n <= 1599 then 'PENDING' when n <= 2099 then 'SENT' else 'SUCCEEDED' end) s (status);

insert into rejected_messages (home_id, topic, reason, payload_preview, received_at)
select 1, 'a topic', 'a reason', '', now() - n * interval '1 second' from generate_series(1, 3000) n;
insert into revocations (at, user_id) select now() - n * interval '1 hour', n from generate_series(1, 20000) n;
insert into device_configs (device_id, version, home_id, config, status, created_at, updated_at)
select id, 1, home_id, '{}', 'PENDING', now(), now() from devices where id % 2 = 0;
insert into retained_clearings (device_id, home_segment, device_segment, confirmed_at)
select id, 'former', key, case when id > 20 then now() end from devices;

-- 3,000 devices of home 1 were deleted before and are registered again: the broker has cleaned up after the first 2,900.
insert into device_credentials (device_id, secret_hash) select id, sha256(id::text::bytea) from devices order by id;
insert into mqtt_clients (username, credential_id, sealed_password, changed_at)
select h.key || '/' || d.key, c.id, 'sealed', now()
from device_credentials c join devices d on d.id = c.device_id join homes h on h.id = d.home_id;
insert into broker_cleanups (home_id, device_id, home_key, device_key, home_segment, device_segment, client_id, cleared_at)
select 1, 10000 + n, 'home-1', 'device-' || n, 'home-1', 'device-' || n, 'client', case when n <= 2900 then now() end
from generate_series(1, 3000) n;
