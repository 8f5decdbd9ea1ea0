alter table device_credentials
    add column slot        smallint not null default 0 check (slot in (0, 1)),
    add column broker_hash text     check (length(broker_hash) between 20 and 200);
comment on column device_credentials.slot is 'Which user name of the device it belongs to: 0 {home key}/{device key}, 1 the same with ~1 behind it, for brokers that know one password a name.';
comment on column device_credentials.broker_hash is 'PBKDF2-SHA512 of the same secret as Mosquitto writes it ($7$…), for its files; null: given out before there was this column.';
create index device_credentials_expiry on device_credentials (expires_at) where expires_at is not null;
comment on index device_credentials_expiry is 'Passwords whose grace period has an end.';
