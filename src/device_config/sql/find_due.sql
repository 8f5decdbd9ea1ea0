-- Devices to which a message must be sent, in this order: new versions; versions to publish again; topics to clear.
-- Homes with new versions take turns: the first is the next one after `after`, and each gets an equal share of `limit`.
-- One statement for the three kinds of work: the dispatcher polls with one round trip, and a device with several kinds
-- of work comes once. A partial index serves each kind.
with recursive homes_after as (
    (
        select home_id as id, 1 as n
        from device_configs
        where status = 'PENDING' and home_id > :after
        order by home_id
        limit 1
    )
    union all
    (
        select next.home_id, h.n + 1
        from homes_after h
            cross join lateral (
                select c.home_id
                from device_configs c
                where c.status = 'PENDING' and c.home_id > h.id
                order by c.home_id
                limit 1
            ) next
        where h.n < :limit + cardinality(:busy::bigint[])
    )
), homes_before as (
    (
        select home_id as id, 1 as n
        from device_configs
        where status = 'PENDING' and home_id <= :after
        order by home_id
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
                order by c.home_id
                limit 1
            ) next
        where h.n < :limit + cardinality(:busy::bigint[])
    )
), waiting as materialized (
    select id, row_number() over (order by is_before, id) as turn
    from (select id, false as is_before from homes_after union all select id, true from homes_before) found
    order by is_before, id
    -- A busy device may be the only one of its home.
    limit :limit + cardinality(:busy::bigint[])
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
                    and c.device_id <> all (:busy::bigint[])
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
            order by version desc
            limit 1
        ) newest
        where r.needs_publish
            and r.device_id <> all (:busy::bigint[])
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
            and l.device_id <> all (:busy::bigint[])
            -- A new version that is to be published under this topic makes the clearing needless.
            and not exists (
                select
                from device_configs c
                join devices d on d.id = c.device_id
                join homes h on h.id = d.home_id
                left join device_states s on s.device_id = d.id
                where c.status = 'PENDING'
                    and coalesce(s.home_segment, h.key) = l.home_segment
                    and coalesce(s.device_segment, d.key) = l.device_segment
            )
        order by l.device_id, l.id
        limit :limit
    )
) due
group by device_id
order by min(rank), min(turn), min(home_turn), device_id
limit :limit;
