-- Accounts whose change the broker has not confirmed: removals first, which disconnect devices, then passwords. Within
-- both, homes take turns, beginning after the home of the last one; a home is found by one index lookup, and of each home
-- only the oldest 200 changes are looked at. The account of a device waits until the broker has deleted what it kept for a
-- deleted device with the same keys.
with recursive kinds as (
    select * from (values (true, :last_removal::text), (false, :last_password::text)) k (is_removal, last)
), homes_after as (
    select k.is_removal, k.last, first.home_key, 1 as n
    from kinds k
        cross join lateral (
            -- The user name is that of MqttUser. Of a deleted device nothing else is left.
            select split_part(a.username, '/', 1) as home_key
            from mqtt_clients a
            where (a.credential_id is null or a.sealed_password is not null)
                and (a.credential_id is null or a.remove_first) = k.is_removal
                and split_part(a.username, '/', 1) > k.last
            order by split_part(a.username, '/', 1)
            limit 1
        ) first
    union all
    select h.is_removal, h.last, next.home_key, h.n + 1
    from homes_after h
        cross join lateral (
            select split_part(a.username, '/', 1) as home_key
            from mqtt_clients a
            where (a.credential_id is null or a.sealed_password is not null)
                and (a.credential_id is null or a.remove_first) = h.is_removal
                and split_part(a.username, '/', 1) > h.home_key
            order by split_part(a.username, '/', 1)
            limit 1
        ) next
    where h.n < :limit
), homes_before as (
    select k.is_removal, k.last, first.home_key, 1 as n
    from kinds k
        cross join lateral (
            select split_part(a.username, '/', 1) as home_key
            from mqtt_clients a
            where (a.credential_id is null or a.sealed_password is not null)
                and (a.credential_id is null or a.remove_first) = k.is_removal
                and split_part(a.username, '/', 1) <= k.last
            order by split_part(a.username, '/', 1)
            limit 1
        ) first
    union all
    select h.is_removal, h.last, next.home_key, h.n + 1
    from homes_before h
        cross join lateral (
            select split_part(a.username, '/', 1) as home_key
            from mqtt_clients a
            where (a.credential_id is null or a.sealed_password is not null)
                and (a.credential_id is null or a.remove_first) = h.is_removal
                and split_part(a.username, '/', 1) > h.home_key
                and split_part(a.username, '/', 1) <= h.last
            order by split_part(a.username, '/', 1)
            limit 1
        ) next
    where h.n < :limit
), homes as materialized (
    select f.is_removal, f.home_key,
        row_number() over (partition by f.is_removal order by f.is_before, f.home_key) as turn,
        count(*) over (partition by f.is_removal) as n_homes
    from (
        select is_removal, home_key, false as is_before from homes_after
        union all
        select is_removal, home_key, true from homes_before
    ) f
)
select p.username, p.credential_id, p.sealed_password, p.mqtt_client_id, h.is_removal
from homes h
    cross join lateral (
        select a.username, a.credential_id, a.sealed_password, d.mqtt_client_id,
            row_number() over (order by a.changed_at, a.username) as turn
        from (
            select *
            from mqtt_clients
            where (credential_id is null or sealed_password is not null)
                and (credential_id is null or remove_first) = h.is_removal
                and split_part(username, '/', 1) = h.home_key
            order by changed_at, username
            limit 200
        ) a
            left join device_credentials c on c.id = a.credential_id
            left join devices d on d.id = c.device_id
        where h.is_removal
            or not exists (
                select
                from broker_cleanups b
                where b.home_key = h.home_key and b.device_key = d.key and b.cleared_at is null
            )
        order by a.changed_at, a.username
        limit 1 + :limit / h.n_homes
    ) p
order by not h.is_removal, p.turn, h.turn
limit :limit
