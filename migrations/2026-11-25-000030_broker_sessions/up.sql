create table broker_sessions (
    client_id text        primary key,
    since     timestamptz not null
);
comment on table broker_sessions is 'Client ids that have, or had, a session at the broker: one that comes to find none has lost what the broker kept.';

create table broker_losses (
    client_id text        not null,
    outbox    text        not null,
    before    timestamptz not null,
    primary key (client_id, outbox)
);
comment on table broker_losses is 'Losses of a broker session that an outbox has still to make good: what was sent up to this time may be gone.';
