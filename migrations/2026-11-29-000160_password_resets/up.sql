create table password_resets (
    token_hash bytea       primary key check (length(token_hash) = 32),
    user_id    bigint      not null references users (id) on delete cascade,
    created_at timestamptz not null default now(),
    expires_at timestamptz not null
);
create index password_resets_user on password_resets (user_id, created_at);
create index password_resets_expiry on password_resets (expires_at);
comment on table password_resets is 'Tokens that set a new password without the old one. A used one is deleted with all others of its user.';
comment on column password_resets.token_hash is 'SHA-256 of the token, which is never stored.';
comment on index password_resets_user is 'The tokens of a user, oldest first.';
comment on index password_resets_expiry is 'Tokens that are deleted next.';
