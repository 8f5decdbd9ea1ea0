drop index memberships_user;
create index memberships_user on memberships (user_id);
