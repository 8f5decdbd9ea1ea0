-- Deletes about :chunk of the oldest rows: a range of the index on (home_id, updated_at). Both ends are given, because with
-- one the planner would expect a large share of the table and scan it.
-- Commands are locked in the order of their ids first, as every statement that changes several of them does: the
-- dispatcher may be expiring them.
with locked as materialized (
    select id
    from commands
    where home_id = :home_id
        and updated_at >= (
            select min(updated_at)
            from (select updated_at from commands where home_id = :home_id order by updated_at limit :chunk) oldest
        )
        and updated_at <= (
            select max(updated_at)
            from (select updated_at from commands where home_id = :home_id order by updated_at limit :chunk) oldest
        )
    order by id
    for update
)
delete from commands
where id = any (array(select id from locked))
