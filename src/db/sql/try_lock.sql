-- A session's advisory lock: released by the database when the connection ends.
-- Without a key the lock is the schema's.
select pg_try_advisory_lock(:class, hashtext(coalesce(:key, current_schema()::text)))
