-- Deleted devices whose cleanup is due: those for which the broker has deleted nothing yet, and those for which it is asked
-- a second time. Homes take turns, beginning after the home of the last one; a home is found by one index lookup, and of
-- each home only the oldest 200 are looked at. The account of the device must be removed before, so that it can't come
-- back. The topics are left alone the second time if another device has them by now.
with recursive homes_after as (
    (
        select b.home_id as id, 1 as n
        from broker_cleanups b
        where b.cleared_at is null and b.home_id > :last_home
        order by b.home_id
        limit 1
    )
    union all
    (
        select next.home_id, h.n + 1
        from homes_after h
            cross join lateral (
                select b.home_id
                from broker_cleanups b
                where b.cleared_at is null and b.home_id > h.id
                order by b.home_id
                limit 1
            ) next
        where h.n < :limit
    )
), homes_before as (
    (
        select b.home_id as id, 1 as n
        from broker_cleanups b
        where b.cleared_at is null and b.home_id <= :last_home
            and (select count(*) from homes_after) < :limit
        order by b.home_id
        limit 1
    )
    union all
    (
        select next.home_id, h.n + 1
        from homes_before h
            cross join lateral (
                select b.home_id
                from broker_cleanups b
                where b.cleared_at is null and b.home_id > h.id and b.home_id <= :last_home
                order by b.home_id
                limit 1
            ) next
        where h.n < :limit
    )
), candidates as materialized (
    select first.*
    from (select id from homes_after union all select id from homes_before) h
        cross join lateral (
            select b.* from broker_cleanups b where b.cleared_at is null and b.home_id = h.id order by b.id limit 200
        ) first
    union all
    (select b.* from broker_cleanups b where b.cleared_at <= :repeat_before order by b.cleared_at limit :limit)
)
select due.id, due.home_id, due.device_id, due.client_id, due.home_key, due.device_key, due.home_segment, due.device_segment,
    due.cleared_at is null
        or not exists (
            select
            from devices d
            join homes h on h.id = d.home_id
            where h.key = due.home_key and d.key = due.device_key
        ) as clears_topics
from (
    select c.*, row_number() over (partition by c.home_id order by c.id) as turn
    from candidates c
    where not (
        :has_accounts
        and exists (
            select
            from mqtt_clients a
            where (a.credential_id is null or a.remove_first)
                and a.username in (
                    c.home_key || '/' || c.device_key,
                    c.home_key || '/' || c.device_key || '~1'
                )
        )
    )
) due
order by due.turn, due.home_id <= :last_home, due.home_id
limit :limit
