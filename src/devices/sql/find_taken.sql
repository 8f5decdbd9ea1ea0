-- A device of the home that has one of these keys or MAC addresses. Each is looked up by its own unique index: with `or`,
-- PostgreSQL reads all devices of the home.
select d.key, d.mac_address
from (
    select found.*
    from unnest(:keys::text[]) wanted (key)
        cross join lateral (
            select id, key, mac_address from devices where home_id = :home::bigint and key = wanted.key limit 1
        ) found
    union all
    select found.*
    from unnest(:macs::text[]) wanted (mac)
        cross join lateral (
            select id, key, mac_address from devices where home_id = :home::bigint and mac_address = wanted.mac limit 1
        ) found
) d
order by d.id
limit 1
