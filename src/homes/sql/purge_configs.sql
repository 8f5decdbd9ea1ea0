-- Deletes about :chunk of the oldest rows: a range of the index on (home_id, updated_at). Both ends are given, because with
-- one the planner would expect a large share of the table and scan it.
delete from device_configs
where home_id = :home_id
    and updated_at >= (
        select min(updated_at)
        from (select updated_at from device_configs where home_id = :home_id order by updated_at limit :chunk) oldest
    )
    and updated_at <= (
        select max(updated_at)
        from (select updated_at from device_configs where home_id = :home_id order by updated_at limit :chunk) oldest
    )
