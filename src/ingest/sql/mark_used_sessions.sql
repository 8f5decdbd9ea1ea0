-- The sessions that servers use now: the server of each holds the advisory lock of its client id.
update ingest_sessions s
set used_at = now()
from pg_locks l
where l.objid = hashtext(s.client_id)::oid
    and l.locktype = 'advisory'
    and l.database = (select oid from pg_database where datname = current_database())
    and l.classid = (:writer_class::integer)::oid
    and l.objsubid = 2
    and l.granted
