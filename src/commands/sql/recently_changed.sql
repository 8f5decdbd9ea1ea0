-- The newest changes in these homes, newest first. Home by home, so that each is a range of an index.
select c.*, c.type as kind
from unnest(:homes::bigint[]) wanted (id)
    cross join lateral (
        select *
        from commands
        where home_id = wanted.id and updated_at >= clock_timestamp() - :within::interval
        order by updated_at desc
        limit :limit
    ) c
order by c.updated_at desc
limit :limit;
