drop function sees_device(bigint[], bigint);
alter table devices rename column login_credential_id to entered_by;
comment on column devices.entered_by is 'The password (device_credentials.id, gone since perhaps) that last opened the door of a broker that asks: the device''s connection is its. Null: none yet.';
