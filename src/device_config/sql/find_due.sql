-- Devices to which a message must be sent, in this order: new versions; versions to publish again; topics to clear.
-- Homes with new versions take turns: the first is the next one after `after`, and each gets an equal share of `limit`.
-- One statement for the three kinds of work: the dispatcher polls with one round trip, and a device with several kinds
-- of work comes once. A partial index serves each kind; devices in `busy` are passed by on the way, and are looked up in a
-- hash table.
with recursive busy as materialized (
    select unnest(:busy::bigint[]) as device_id
), homes_after as (
    (
        select c.home_id as id, 1 as n
        from device_configs c
        where c.status = 'PENDING' and c.home_id > :after and c.device_id not in (select device_id from busy)
        order by c.home_id
        limit 1
    )
    union all
    (
        select next.home_id, h.n + 1
        from homes_after h
            cross join lateral (
                select c.home_id
                from device_configs c
                where c.status = 'PENDING' and c.home_id > h.id and c.device_id not in (select device_id from busy)
                order by c.home_id
                limit 1
            ) next
        where h.n < :limit
    )
), homes_before as (
    (
        select c.home_id as id, 1 as n
        from device_configs c
        where c.status = 'PENDING' and c.home_id <= :after and c.device_id not in (select device_id from busy)
            and (select count(*) from homes_after) < :limit
        order by c.home_id
        limit 1
    )
    union all
    (
        select next.home_id, h.n + 1
        from homes_before h
            cross join lateral (
                select c.home_id
                from device_configs c
                where c.status = 'PENDING' and c.home_id > h.id and c.home_id <= :after
                    and c.device_id not in (select device_id from busy)
                order by c.home_id
                limit 1
            ) next
        where h.n < :limit
    )
), waiting as materialized (
    select id, row_number() over (order by is_before, id) as turn
    from (select id, false as is_before from homes_after union all select id, true from homes_before) found
    order by is_before, id
    limit :limit
)
select device_id, min(home_id) as home_id
from (
    (
        select version.device_id, 1 as rank, version.turn, h.turn as home_turn, h.id as home_id
        from waiting h
            cross join lateral (
                select c.device_id, row_number() over (order by c.created_at, c.device_id) as turn
                from device_configs c
                where c.home_id = h.id
                    and c.status = 'PENDING'
                    -- A device that was deleted with its home leaves versions behind for a while.
                    and exists (select from devices d where d.id = c.device_id)
                    and c.device_id not in (select device_id from busy)
                    and (c.device_id, c.version) not in (
                        select * from unnest(:unreadable_devices::bigint[], :unreadable_versions::integer[])
                    )
                order by c.created_at, c.device_id
                limit 1 + :limit / (select count(*) from waiting)
            ) version
        order by version.turn, h.turn
        limit :limit
    )
    union all
    (
        select r.device_id, 2, null, null, null
        from retained_configs r
        cross join lateral (
            select device_id, version
            from device_configs
            where device_id = r.device_id
                and status not in ('REJECTED', 'SUPERSEDED')
            order by version desc
            limit 1
        ) newest
        where r.needs_publish
            and r.device_id not in (select device_id from busy)
            and (newest.device_id, newest.version) not in (
                select * from unnest(:unreadable_devices::bigint[], :unreadable_versions::integer[])
            )
        order by r.device_id
        limit :limit
    )
    union all
    (
        select l.device_id, 3, null, null, null
        from retained_clearings l
        where l.confirmed_at is null
            and l.device_id not in (select device_id from busy)
            -- A new version that is to be published under this topic makes the clearing needless. The devices that use the
            -- topic are looked up by an index each: those that sent under it, and those that never sent anything.
            and not exists (
                select
                from device_states s
                where s.home_segment = l.home_segment
                    and s.device_segment = l.device_segment
                    and exists (select from device_configs c where c.device_id = s.device_id and c.status = 'PENDING')
            )
            and not exists (
                select
                from homes h
                join devices d on d.home_id = h.id and d.key = l.device_segment
                where h.key = l.home_segment
                    and exists (select from device_configs c where c.device_id = d.id and c.status = 'PENDING')
                    and not exists (select from device_states s where s.device_id = d.id and s.home_segment is not null)
            )
        order by l.device_id, l.id
        limit :limit
    )
) due
group by device_id
order by min(rank), min(turn), min(home_turn), device_id
limit :limit;
