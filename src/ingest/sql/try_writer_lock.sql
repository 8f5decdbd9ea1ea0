select pg_try_advisory_lock(:class, hashtext(:client_id))
