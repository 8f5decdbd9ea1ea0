-- The next devices of the queue, without those in `busy`, and whether a device is ready: it has a command to send and
-- has not announced that it is offline. Homes take turns: the first is the next one after `after`, and each gets an equal
-- share of `limit`. A home is found by one index lookup; devices in `busy` are passed by on the way, and are looked up in
-- a hash table.
with recursive busy as materialized (
    select unnest(:busy::bigint[]) as device_id
), homes_after as (
    (
        select q.home_id as id, 1 as n
        from command_queue q
        where not q.is_held and q.home_id > :after and q.device_id not in (select device_id from busy)
        order by q.home_id
        limit 1
    )
    union all
    (
        select next.home_id, h.n + 1
        from homes_after h
            cross join lateral (
                select q.home_id
                from command_queue q
                where not q.is_held and q.home_id > h.id and q.device_id not in (select device_id from busy)
                order by q.home_id
                limit 1
            ) next
        where h.n < :limit
    )
), homes_before as (
    (
        select q.home_id as id, 1 as n
        from command_queue q
        where not q.is_held and q.home_id <= :after and q.device_id not in (select device_id from busy)
            and (select count(*) from homes_after) < :limit
        order by q.home_id
        limit 1
    )
    union all
    (
        select next.home_id, h.n + 1
        from homes_before h
            cross join lateral (
                select q.home_id
                from command_queue q
                where not q.is_held and q.home_id > h.id and q.home_id <= :after
                    and q.device_id not in (select device_id from busy)
                order by q.home_id
                limit 1
            ) next
        where h.n < :limit
    )
), homes as materialized (
    select id, row_number() over (order by is_before, id) as turn
    from (select id, false as is_before from homes_after union all select id, true from homes_before) found
    order by is_before, id
    limit :limit
)
select
    device.device_id,
    h.id as home_id,
    not coalesce((
        select s.announced_offline from device_states s where s.device_id = device.device_id
    ), false) and coalesce((
        select true
        from commands c
        where c.device_id = device.device_id
            and c.status = 'PENDING'
            and c.deadline is not null
            and c.expires_at > :now
        limit 1
    ), false) as is_ready
from homes h
    cross join lateral (
        select q.device_id, row_number() over (order by q.turn) as turn
        from command_queue q
        where q.home_id = h.id and not q.is_held and q.device_id not in (select device_id from busy)
        order by q.turn
        limit 1 + :limit / (select count(*) from homes)
    ) device
order by device.turn, h.turn
limit :limit;
