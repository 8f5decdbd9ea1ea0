-- Deletes about :chunk of the oldest rows: a range of the index on (device_id, recorded_at). Both ends are given, because with
-- one the planner would expect a large share of the table and scan it.
delete from parked_readings
where device_id = :device_id
    and recorded_at >= (
        select min(recorded_at)
        from (select recorded_at from parked_readings where device_id = :device_id order by recorded_at limit :chunk) oldest
    )
    and recorded_at <= (
        select max(recorded_at)
        from (select recorded_at from parked_readings where device_id = :device_id order by recorded_at limit :chunk) oldest
    )
    and home_id = :home_id
