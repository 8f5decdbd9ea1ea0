delete from outside_identities where user_id is null;
comment on column outside_identities.user_id is null;
alter table outside_identities alter column user_id set not null;

comment on column refresh_tokens.expires_at is null;
comment on table refresh_tokens is 'One row per refresh token ever given out and not yet purged.';
drop index refresh_tokens_end;
alter table refresh_tokens add column revoked_at timestamptz;
