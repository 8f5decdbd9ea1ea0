-- The homes and devices that addresses in topics name. An address whose home does not exist has no row.
-- A home is looked up once for all its addresses. Each kind of name is looked up by its own unique index: with `or`,
-- PostgreSQL reads all devices of the home.
with named_homes as materialized (
    select n.position, h.id
    from unnest(:home_ids::bigint[], :home_keys::text[]) with ordinality n (id, key, position)
        join lateral (
            select id from homes where id = n.id
            union all
            select id from homes where key = n.key
            limit 1
        ) h on true
)
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
from unnest(:homes::bigint[], :device_ids::bigint[], :device_macs::text[], :device_keys::text[])
    with ordinality a (home, device_id, device_mac, device_key, position)
    join named_homes h on h.position = a.home
    left join lateral (
        select id, created_at from devices where home_id = h.id and id = a.device_id
        union all
        select id, created_at from devices where home_id = h.id and mac_address = a.device_mac
        union all
        select id, created_at from devices where home_id = h.id and key = a.device_key
        limit 1
    ) d on true
    left join device_states s on s.device_id = d.id
