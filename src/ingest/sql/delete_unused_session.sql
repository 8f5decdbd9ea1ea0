-- Deletes what is kept for one session that no server has used for so long that the broker has deleted it. The lock keeps a
-- server from beginning with it meanwhile. The session with the plain subscription of a prefix stays: the next server
-- continues it, and knows what is lost if the broker has none.
with old as materialized (
    select client_id
    from broker_sessions b
    full join ingest_sessions s using (client_id)
    where coalesce(s.used_at, b.since) < now() - make_interval(hours => :max_unused_hours::integer) and s.plain_prefix is null
), unused as materialized (
    select client_id
    from old
    where pg_try_advisory_xact_lock(:writer_class::integer, hashtext(client_id))
    limit 1
), packets as (
    delete from committed_packets p using unused u where p.client_id = u.client_id
), at_broker as (
    delete from broker_sessions b using unused u where b.client_id = u.client_id
), session as (
    delete from ingest_sessions s using unused u where s.client_id = u.client_id
)
select count(*) from unused
