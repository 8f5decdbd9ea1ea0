-- A session's advisory lock on a topic prefix of this schema: released by the database when the connection ends.
select case
    when :is_shared then pg_try_advisory_lock_shared(:class, hashtext(current_schema() || '/' || :prefix))
    else pg_try_advisory_lock(:class, hashtext(current_schema() || '/' || :prefix))
end
