alter table ingest_sessions drop column used_at;
