-- The homes and devices that addresses in topics name. An address whose home does not exist has no row.
select
    a.position,
    h.id as home,
    d.id as device,
    coalesce(s.online, false) as online,
    s.last_seen_at is not null as seen,
    coalesce(s.backlog_since, s.last_seen_at, d.created_at) as backlog_since
from unnest(
        :home_ids::bigint[], :home_keys::text[], :device_ids::bigint[], :device_macs::text[], :device_keys::text[]
    ) with ordinality a (home_id, home_key, device_id, device_mac, device_key, position)
    join homes h on h.id = a.home_id or h.key = a.home_key
    left join devices d on d.home_id = h.id
        and (d.id = a.device_id or d.mac_address = a.device_mac or d.key = a.device_key)
    left join device_states s on s.device_id = d.id
