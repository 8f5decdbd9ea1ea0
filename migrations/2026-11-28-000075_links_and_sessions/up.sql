alter table outside_identities alter column user_id drop not null;
comment on column outside_identities.user_id is 'Null where an operator has taken the link back: then no e-mail address makes it anew.';

delete from refresh_tokens where revoked_at is not null;
alter table refresh_tokens drop column revoked_at;
create index refresh_tokens_end on refresh_tokens (expires_at);
comment on table refresh_tokens is 'One row per refresh token that can be exchanged, or was and is known as used. Those of a session that has ended are gone.';
comment on column refresh_tokens.expires_at is 'From when it is worth nothing and may go. Of a used one: up to when a replay is known.';
