create table invitations (
    id         bigint generated always as identity primary key,
    home_id    bigint      not null references homes (id) on delete cascade,
    email      text        not null check (email = lower(email) and length(email) between 3 and 254),
    role       text        not null check (role in ('OWNER', 'ADMIN', 'MEMBER', 'GUEST')),
    token_hash bytea       not null unique check (length(token_hash) = 32),
    invited_by bigint      not null references users (id) on delete cascade,
    created_at timestamptz not null default now(),
    expires_at timestamptz not null,
    unique (home_id, email)
);
create index invitations_invited_by on invitations (invited_by);
comment on table invitations is 'Who may become a member of a home and has not yet. An accepted one is deleted.';
comment on column invitations.email is 'Lower case; only the account with this login name may accept.';
comment on column invitations.token_hash is 'SHA-256 of the token, which is never stored.';
comment on column invitations.invited_by is 'With the right to invite its invitations end too.';
