-- Whether another connection holds the advisory lock on a topic prefix of this schema. The one taken here ends with the
-- statement.
select not pg_try_advisory_xact_lock(:class, hashtext(current_schema() || '/' || :prefix))
