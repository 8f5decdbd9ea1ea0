-- Deletes about :chunk of the oldest rows: a range of the index on (home_id, id). Both ends are given, because with
-- one the planner would expect a large share of the table and scan it.
delete from parked_readings
where home_id = :home_id
    and id >= (
        select min(id)
        from (select id from parked_readings where home_id = :home_id order by id limit :chunk) oldest
    )
    and id <= (
        select max(id)
        from (select id from parked_readings where home_id = :home_id order by id limit :chunk) oldest
    )
