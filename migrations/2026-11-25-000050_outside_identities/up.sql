create table outside_identities (
    id         bigint generated always as identity primary key,
    issuer     text        not null check (length(issuer) between 1 and 255),
    subject    text        not null check (length(subject) between 1 and 255),
    user_id    bigint      not null references users (id) on delete cascade,
    created_at timestamptz not null,
    unique (issuer, subject)
);
create index outside_identities_user on outside_identities (user_id);
comment on table outside_identities is 'Which person somebody at a trusted outside issuer is. Fixed once made, whatever becomes of e-mail addresses.';
comment on column outside_identities.issuer is 'iss of their tokens.';
comment on column outside_identities.subject is 'sub of their tokens: names somebody at that issuer alone.';
