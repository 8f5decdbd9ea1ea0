alter table outside_identities alter column user_id drop not null;
comment on column outside_identities.user_id is 'Null where an operator has taken the link back: then no e-mail address makes it anew.';
