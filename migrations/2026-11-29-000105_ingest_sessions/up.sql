-- The sessions at the broker with which servers ingest, so that another server can continue one.
create table ingest_sessions (
    client_id text primary key,
    plain_prefix text unique,
    group_prefix text,
    term bigint not null,
    is_stale boolean not null default false
);
comment on table ingest_sessions is 'Sessions at the broker with which servers ingest, by MQTT client id.';
comment on column ingest_sessions.plain_prefix is 'The topic prefix whose messages the session receives by a plain subscription. The next server that ingests them continues this session, so that nothing is lost or stored twice. Null: the session has a shared subscription, or was given up.';
comment on column ingest_sessions.group_prefix is 'The topic prefix of whose messages the session receives a share. Null: it has no shared subscription, or is about to end it.';
comment on column ingest_sessions.term is 'Rises when a server begins to store for the session. A server that lost its locks and finds another term has to begin anew.';
comment on column ingest_sessions.is_stale is 'The broker may hold messages in the session that were stored from another one: it has to discard them. Until a new session has begun.';
