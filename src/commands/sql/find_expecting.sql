-- The commands whose effect may still be observed: of each home the newest, up to :per_home. Of all homes the first
-- come first, then the second, and so on, so that :limit takes nothing from homes with few. A command that timed out is
-- observed until `finished_since`. The first part finds the homes by one index lookup each.
with recursive expecting_homes as (
    select min(c.home_id) as id
    from commands c
    where c.expect is not null
        and c.dispatched_at is not null
        and c.status in ('PENDING', 'SENT', 'ACKED', 'TIMED_OUT')
    union all
    select (
        select min(c.home_id)
        from commands c
        where c.home_id > h.id
            and c.expect is not null
            and c.dispatched_at is not null
            and c.status in ('PENDING', 'SENT', 'ACKED', 'TIMED_OUT')
    )
    from expecting_homes h
    where h.id is not null
)
select c.*, c.type as kind
from expecting_homes h
cross join lateral (
    select o.*, row_number() over (order by o.dispatched_at desc) as place
    from commands o
    where o.home_id = h.id
        and o.expect is not null
        and o.dispatched_at is not null
        and o.status in ('PENDING', 'SENT', 'ACKED', 'TIMED_OUT')
        and (o.finished_at is null or o.finished_at >= :finished_since)
    order by o.dispatched_at desc
    limit :per_home
) c
order by c.place, c.dispatched_at desc
limit :limit;
