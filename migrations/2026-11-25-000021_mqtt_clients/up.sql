create table mqtt_clients (
    username        text        primary key,
    credential_id   bigint      unique references device_credentials (id) on delete set null,
    sealed_password bytea,
    changed_at      timestamptz not null
);
create index mqtt_clients_pending on mqtt_clients (changed_at) where credential_id is null or sealed_password is not null;
comment on table mqtt_clients is 'What a broker that keeps accounts itself (MQTT_PROVISIONING=dynsec) is to know, and what it has not been told yet.';
comment on column mqtt_clients.credential_id is 'The password it belongs to; null once that is gone, by whichever road: the account is to be removed at the broker, then this row.';
comment on column mqtt_clients.sealed_password is 'The password, encrypted under the broker''s administrator password, until the broker has it.';
