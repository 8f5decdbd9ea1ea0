drop table ingest_sessions;
