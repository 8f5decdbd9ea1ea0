drop table integration_tokens;
delete from users where home_id is not null;
alter table memberships drop column device_ids, drop column scopes;
comment on table memberships is 'Who may do what in a home.';
alter table users drop column home_id;
comment on table users is 'People who can sign in.';
