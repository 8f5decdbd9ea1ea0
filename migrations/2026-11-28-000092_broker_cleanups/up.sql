create table broker_cleanups (
    id             bigint generated always as identity primary key,
    home_id        bigint not null,
    device_id      bigint not null,
    home_key       text   not null,
    device_key     text   not null,
    home_segment   text,
    device_segment text,
    client_id      text   not null,
    cleared_at     timestamptz
);
create index broker_cleanups_keys on broker_cleanups (home_key, device_key);
comment on table broker_cleanups is 'Deleted devices whose session and retained messages the broker must delete: at once, and again an hour later, after which the row is deleted. Until the first time, the next device with the same keys cannot connect.';
comment on column broker_cleanups.home_segment is 'How the device last spelt its home in its topics; null: it never sent a message.';
comment on column broker_cleanups.device_segment is 'How the device last spelt itself in its topics.';
comment on column broker_cleanups.client_id is 'The device''s MQTT client id, which names its session.';
comment on column broker_cleanups.cleared_at is 'When the broker confirmed it for the first time.';

alter table mqtt_clients add column remove_first boolean not null default false;
comment on column mqtt_clients.remove_first is 'The broker may have the account with a former password: it must be removed, which closes its connections, before it is created again.';
