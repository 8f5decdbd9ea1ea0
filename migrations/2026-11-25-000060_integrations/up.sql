alter table users add column home_id bigint references homes (id) on delete cascade;
alter table users add constraint users_integration check (home_id is null or password_hash = '!');
create index users_home on users (home_id) where home_id is not null;
comment on table users is 'Who acts: people who can sign in, and integrations.';
comment on column users.home_id is 'Set for an integration: it belongs to this home and goes with it. It can''t sign in.';
comment on index users_home is 'The integrations of a home.';

alter table memberships add column scopes smallint check (scopes between 1 and 31);
alter table memberships add column device_ids bigint[] check (cardinality(device_ids) between 1 and 100);
alter table memberships add constraint memberships_scopes
    check (case when scopes is null then device_ids is null else role = 'GUEST' end);
comment on table memberships is 'Who may do what in a home: people by role, integrations by scopes.';
comment on column memberships.scopes is
    'Set for an integration, which may do nothing else: the sum of 1 DEVICES_READ, 2 TELEMETRY_READ, 4 COMMANDS_SEND, 8 CONFIG_PUSH, 16 ALERTS_MANAGE.';
comment on column memberships.device_ids is 'The only devices an integration reaches; null for all of the home.';

create table integration_tokens (
    id           uuid        primary key,
    user_id      bigint      not null unique references users (id) on delete cascade,
    home_id      bigint      not null references homes (id) on delete cascade,
    name         text        not null check (length(name) between 1 and 100),
    scopes       smallint    not null check (scopes between 1 and 31),
    device_ids   bigint[]    check (cardinality(device_ids) between 1 and 100),
    created_by   bigint      references users (id) on delete set null,
    created_at   timestamptz not null default now(),
    expires_at   timestamptz,
    last_used_at timestamptz,
    revoked_at   timestamptz
);
create index integration_tokens_home on integration_tokens (home_id, created_at);
create index integration_tokens_created_by on integration_tokens (created_by);
comment on table integration_tokens is 'What integrations act by, revoked ones too, so that what they did keeps a name. The token itself is signed, not stored.';
comment on column integration_tokens.id is 'jti of the token; what is ended as a session when it is revoked.';
comment on column integration_tokens.user_id is 'As whom it acts. The user''s place in the home ends with the token.';
comment on column integration_tokens.scopes is 'As in memberships, and kept when that is gone.';
comment on column integration_tokens.created_by is 'With the right to make tokens, theirs end too.';
comment on column integration_tokens.last_used_at is 'To within a minute.';
