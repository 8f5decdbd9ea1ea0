create table users (
    id            bigint generated always as identity primary key,
    email         text        not null unique check (email = lower(email) and length(email) between 3 and 254),
    name          text        not null check (length(name) between 1 and 100),
    password_hash text        not null,
    created_at    timestamptz not null default now()
);
comment on table users is 'People who can sign in.';
comment on column users.email is 'Lower case; the login name.';
comment on column users.password_hash is 'Argon2id in PHC form, parameters included.';

create table refresh_tokens (
    id         bigint generated always as identity primary key,
    user_id    bigint      not null references users (id) on delete cascade,
    family     uuid        not null,
    token_hash bytea       not null unique check (length(token_hash) = 32),
    created_at timestamptz not null default now(),
    expires_at timestamptz not null,
    used_at    timestamptz,
    revoked_at timestamptz
);
create index refresh_tokens_user on refresh_tokens (user_id);
create index refresh_tokens_family on refresh_tokens (family);
comment on table refresh_tokens is 'One row per refresh token ever given out and not yet purged.';
comment on column refresh_tokens.family is 'All tokens that descend from one login; a replayed one ends them all.';
comment on column refresh_tokens.token_hash is 'SHA-256 of the opaque token, which is never stored.';
comment on column refresh_tokens.used_at is 'When it was exchanged for its successor.';
