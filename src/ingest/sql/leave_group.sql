-- Changes the row only if the server of another session of the group runs: it holds the advisory lock of its client id.
-- Servers that stop at once lock the rows in one order, and so decide one after the other: the last one stays.
with members as materialized (
    select client_id
    from ingest_sessions
    where group_prefix = :prefix
    order by client_id
    for update
)
update ingest_sessions session
set group_prefix = null
where session.client_id = :client_id
    and session.group_prefix = :prefix
    and exists (
        select
        from members m
        join pg_locks l on l.objid = hashtext(m.client_id)::oid
        where m.client_id <> session.client_id
            and l.locktype = 'advisory'
            and l.database = (select oid from pg_database where datname = current_database())
            and l.classid = (:writer_class::integer)::oid
            and l.objsubid = 2
            and l.granted
    )
