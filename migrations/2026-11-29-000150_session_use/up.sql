alter table ingest_sessions add column used_at timestamptz not null default now();
comment on column ingest_sessions.used_at is 'When a server last used the session, to the hour: long after that the broker has deleted it, and what is kept for it is deleted, too.';
-- What earlier releases kept has no row in ingest_sessions: its age counts from now.
update broker_sessions set since = now();
