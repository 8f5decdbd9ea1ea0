-- A user may be a member of many homes: whether of one is one look-up.
drop index memberships_user;
create index memberships_user on memberships (user_id, home_id);
