-- Whether a reading is stored, by its cursor.
select exists (select from telemetry where home_id = :home::bigint and id = :id::bigint)
