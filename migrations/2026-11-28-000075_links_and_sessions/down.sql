delete from outside_identities where user_id is null;
comment on column outside_identities.user_id is null;
alter table outside_identities alter column user_id set not null;
