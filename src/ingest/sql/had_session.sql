-- Whether the broker has kept a session before: for this client id, or for a server of the group while none of them runs
-- that has one. In both cases a broker that has no session for this client id may have lost what it retained. A server that
-- runs holds the advisory lock of its client id; it is of the group before it is noted there, once it has subscribed.
with kept as (
    select
        m.group_prefix,
        exists (
            select
            from pg_locks l
            where l.objid = hashtext(m.client_id)::oid
                and l.locktype = 'advisory'
                and l.database = (select oid from pg_database where datname = current_database())
                and l.classid = (:writer_class::integer)::oid
                and l.objsubid = 2
                and l.granted
        ) as runs
    from ingest_sessions m
    join broker_sessions b on b.client_id = m.client_id
    where m.client_id <> :client_id::text
        and m.plain_prefix is null
        and coalesce(m.group_prefix, :group_prefix::text) = :group_prefix::text
)
select
    exists (select from broker_sessions where client_id = :client_id::text)
    or coalesce((select bool_or(group_prefix is not null) and not bool_or(runs) from kept), false)
