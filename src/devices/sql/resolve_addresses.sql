-- The homes and devices that addresses in topics name. An address whose home does not exist has no row.
-- Each kind of name is looked up by its own unique index: with `or`, PostgreSQL reads all devices of the home.
select
    a.position,
    h.id as home,
    d.id as device,
    coalesce(s.online, false) as online,
    coalesce(s.announced_offline, false) as announced_offline,
    s.last_seen_at is not null as seen,
    coalesce(s.backlog_since, s.last_seen_at, d.created_at) as backlog_since,
    s.stored_day,
    coalesce(s.stored_bytes, 0) as stored_bytes
from unnest(
        :home_ids::bigint[], :home_keys::text[], :device_ids::bigint[], :device_macs::text[], :device_keys::text[]
    ) with ordinality a (home_id, home_key, device_id, device_mac, device_key, position)
    join lateral (
        select id from homes where id = a.home_id
        union all
        select id from homes where key = a.home_key
        limit 1
    ) h on true
    left join lateral (
        select id, created_at from devices where home_id = h.id and id = a.device_id
        union all
        select id, created_at from devices where home_id = h.id and mac_address = a.device_mac
        union all
        select id, created_at from devices where home_id = h.id and key = a.device_key
        limit 1
    ) d on true
    left join device_states s on s.device_id = d.id
