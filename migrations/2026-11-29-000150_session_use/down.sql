alter table ingest_sessions drop column used_at;
-- broker_sessions.since stays: the times before are not known any more.
