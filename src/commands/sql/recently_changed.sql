-- The newest changes in these homes, newest first. Home by home, so that each is a range of an index: with
-- clock_timestamp(), which differs from row to row, PostgreSQL would compare the time of every command of the home.
select c.*, c.type as kind
from unnest(:homes::bigint[]) wanted (id)
    cross join lateral (
        select *
        from commands
        where home_id = wanted.id and updated_at >= statement_timestamp() - :within::interval
        order by updated_at desc
        limit :limit
    ) c
order by c.updated_at desc
limit :limit;
