create table revocations (
    id            bigint generated always as identity primary key,
    at            timestamptz not null default clock_timestamp(),
    user_id       bigint,
    session_id    uuid,
    home_id       bigint,
    issued_before timestamptz,
    check (num_nonnulls(user_id, session_id, home_id) > 0)
);
create index revocations_at on revocations (at);
comment on table revocations is
    'What has ended of late: a session; a membership (user and home); a home; every token of a user that belongs to no session. Read by every server, forgotten once no token can outlive it.';
comment on column revocations.at is 'By the database''s clock: servers ask for what is younger than a minute.';
comment on column revocations.user_id is 'No reference: what has ended stays ended when its user is gone.';
comment on column revocations.session_id is 'Family of refresh tokens, `sid` of access tokens.';
comment on column revocations.issued_before is 'Tokens without a session that were issued before this second are ended.';
