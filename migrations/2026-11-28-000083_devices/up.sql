alter table devices rename column entered_by to login_credential_id;
comment on column devices.login_credential_id is 'The password (device_credentials.id, perhaps deleted since) with which the device last logged in at a broker that asks the server. Null: none yet.';

-- The one rule of which devices a membership reaches. A plain expression, so that the planner inlines it and plans
-- as if it were written in the statement.
create function sees_device(member_device_ids bigint[], device_id bigint) returns boolean
language sql immutable parallel safe
as 'select member_device_ids is null or device_id = any (member_device_ids)';
comment on function sees_device(bigint[], bigint) is 'Whether a membership with these memberships.device_ids sees the device: null is all devices of the home.';
