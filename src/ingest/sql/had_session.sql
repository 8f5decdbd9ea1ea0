-- Whether the broker has kept a session before: for this client id, or for another server of the group while none of them
-- runs. In both cases a broker that has no session for this client id may have lost what it retained.
select
    exists (select from broker_sessions where client_id = :client_id::text)
    or exists (
        select
        from ingest_sessions m
        join broker_sessions b on b.client_id = m.client_id
        where m.group_prefix = :group_prefix::text and m.client_id <> :client_id::text
    )
    and not exists (
        select
        from ingest_sessions m
        join pg_locks l on l.objid = hashtext(m.client_id)::oid
        where m.group_prefix = :group_prefix::text
            and m.client_id <> :client_id::text
            and l.locktype = 'advisory'
            and l.database = (select oid from pg_database where datname = current_database())
            and l.classid = (:writer_class::integer)::oid
            and l.objsubid = 2
            and l.granted
    )
