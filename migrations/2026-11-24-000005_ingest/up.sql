create table rejected_messages (
    id              bigint generated always as identity primary key,
    home_id         bigint      not null references homes (id) on delete cascade,
    topic           text        not null,
    reason          text        not null,
    payload_preview text        not null,
    received_at     timestamptz not null
);
create index rejected_messages_home on rejected_messages (home_id, id);
comment on table rejected_messages is 'Messages that named an existing home and could not be used: the first 512 bytes, for its admins.';

create table mqtt_deliveries (
    client_id  text     not null,
    id         bigint   generated always as identity,
    packet_ids integer[] not null,
    digests    bigint[] not null,
    primary key (client_id, id)
);
comment on table mqtt_deliveries is 'Packet ids and digests of what was committed in the present broker session: a redelivery (DUP) that stands here is stored already. Bounded by the 65,535 packet ids of the protocol.';
