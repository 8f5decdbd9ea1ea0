-- The commands whose effect may still be observed: of each home the newest, up to :per_home. Of all homes the first
-- come first, then the second, and so on, so that :limit takes nothing from homes with few. The first part finds the
-- homes with open commands by one index lookup each.
with recursive open_homes as (
    select min(c.home_id) as id
    from commands c
    where c.expect is not null
        and c.dispatched_at is not null
        and c.status in ('PENDING', 'SENT', 'ACKED')
    union all
    select (
        select min(c.home_id)
        from commands c
        where c.home_id > h.id
            and c.expect is not null
            and c.dispatched_at is not null
            and c.status in ('PENDING', 'SENT', 'ACKED')
    )
    from open_homes h
    where h.id is not null
), expecting as (
    select o.id, o.home_id, o.dispatched_at
    from open_homes h
    cross join lateral (
        select c.id, c.home_id, c.dispatched_at
        from commands c
        where c.home_id = h.id
            and c.expect is not null
            and c.dispatched_at is not null
            and c.status in ('PENDING', 'SENT', 'ACKED')
        order by c.dispatched_at desc
        limit :per_home
    ) o
    union all
    -- Commands that timed out lately. Their number is bounded, not that of their homes: a lookup for each home would
    -- pass all those that timed out long ago.
    (
        select c.id, c.home_id, c.dispatched_at
        from commands c
        where c.finished_at >= :finished_since
            and c.expect is not null
            and c.dispatched_at is not null
            and c.status = 'TIMED_OUT'
        order by c.finished_at desc
        limit :max_late
    )
), placed as (
    select e.id, e.dispatched_at, row_number() over (partition by e.home_id order by e.dispatched_at desc) as place
    from expecting e
), chosen as materialized (
    select p.id, p.place
    from placed p
    where p.place <= :per_home
    order by p.place, p.dispatched_at desc
    limit :limit
)
select c.*, c.type as kind
from chosen
join commands c on c.id = chosen.id
order by chosen.place, c.dispatched_at desc;
