-- A page of each device's commands, newest first.
select c.*, c.type as kind
from unnest(:devices::bigint[]) with ordinality wanted (id, place)
    cross join lateral (
        select *
        from commands
        where device_id = wanted.id and seq < :before and coalesce(status = :status::text, true)
        order by seq desc
        limit :limit
    ) c
order by wanted.place, c.seq desc;
