create table commands (
    id              uuid        primary key,
    seq             bigint      not null generated always as identity,
    home_id         bigint      not null,
    device_id       bigint      not null references devices (id) on delete cascade,
    type            text        not null check (type ~ '^[A-Za-z0-9_.:-]{1,64}$'),
    payload         json        not null,
    source          text        not null check (source in ('USER', 'INTEGRATION', 'AUTOMATION', 'BACKEND', 'TEST')),
    correlation_id  text        not null,
    on_stale        text        not null check (on_stale in ('EXPIRE', 'SUPERSEDE')),
    expect          json,
    status          text        not null check (status in ('PENDING', 'SENT', 'ACKED', 'SUCCEEDED', 'FAILED', 'TIMED_OUT', 'EXPIRED', 'CANCELLED')),
    result          json,
    error           text,
    confirmed_by    text        check (confirmed_by in ('ACK', 'EFFECT')),
    superseded_by   uuid,
    requested_by    bigint      references users (id) on delete set null,
    idempotency_key text,
    body_digest     bytea       check (length(body_digest) = 32),
    timeout_seconds integer     not null check (timeout_seconds between 1 and 86400),
    created_at      timestamptz not null,
    handed_at       timestamptz,
    in_doubt        boolean     not null default false,
    unheard         boolean     not null default false,
    sent_at         timestamptz,
    acked_at        timestamptz,
    finished_at     timestamptz,
    expires_at      timestamptz not null,
    deadline        timestamptz,
    updated_at      timestamptz not null default clock_timestamp(),
    -- What is open has a moment at which the clock acts; what is over has none.
    check ((deadline is not null) = (status in ('PENDING', 'SENT', 'ACKED'))),
    check ((idempotency_key is null) = (body_digest is null))
);
create unique index commands_idempotency on commands (requested_by, idempotency_key) where idempotency_key is not null;
create index commands_device on commands (device_id, seq);
create index commands_home on commands (home_id, updated_at, id);
create index commands_deadline on commands (deadline) where deadline is not null;
create index commands_pending on commands (device_id, seq) where status = 'PENDING';
create index commands_sent on commands (id) where status = 'SENT';
create index commands_unheard on commands (device_id) where unheard;
create index commands_expect on commands (handed_at) where expect is not null and handed_at is not null and status in ('PENDING', 'SENT', 'ACKED', 'TIMED_OUT');

comment on table commands is 'What devices are told to do. The row is the truth and the outbox: committed before anybody is told, changed only by what was seen.';
comment on column commands.id is 'The commandId on the wire, without its spelling.';
comment on column commands.seq is 'Order of the commands of a device: taken while its row in devices is locked.';
comment on column commands.home_id is 'The home of the device, for those who follow a home.';
comment on column commands.device_id is 'Who is to do it.';
comment on column commands.type is 'What is to be done; the types we know are validated.';
comment on column commands.payload is 'Its arguments: the text as it was given, which is also what the device gets.';
comment on column commands.source is 'Who acts.';
comment on column commands.correlation_id is 'What the requester joins it with; handed on to the device.';
comment on column commands.on_stale is 'EXPIRE: it waits until expires_at. SUPERSEDE: a newer one of the same type and device ends it while it waits.';
comment on column commands.expect is 'What telemetry or status shows once it is done: {"field": value} or {"field": {"min": 1, "max": 2}}.';
comment on column commands.status is 'Never claims more than was seen. PENDING, SENT and ACKED are open; TIMED_OUT and EXPIRED can be corrected by a late answer.';
comment on column commands.result is 'What the device answered with SUCCEEDED or FAILED.';
comment on column commands.error is 'For people: why it failed, or is late.';
comment on column commands.confirmed_by is 'What showed the outcome: the device''s ACK, or the EFFECT that was expected.';
comment on column commands.superseded_by is 'The newer command that ended this one; it may be pruned.';
comment on column commands.requested_by is 'Who asked for it; null once the account is gone.';
comment on column commands.idempotency_key is 'The requester''s name for the request: the same again makes no second command.';
comment on column commands.body_digest is 'SHA-256 of the request, to tell a repeat from another request under the same key.';
comment on column commands.timeout_seconds is 'How long an answer may take: after it was sent, and again after it was acknowledged.';
comment on column commands.created_at is 'When it was accepted.';
comment on column commands.handed_at is 'First handed to the link: from then on it may have left, and is neither cancelled nor superseded.';
comment on column commands.in_doubt is 'An attempt before the last one may have reached the device: nobody learnt what became of it.';
comment on column commands.unheard is 'The broker had nobody to give it to when it was sent; it goes again once the device is heard.';
comment on column commands.sent_at is 'The broker confirmed it.';
comment on column commands.acked_at is 'The device said that it has it.';
comment on column commands.finished_at is 'When the outcome came, or nothing more was waited for.';
comment on column commands.expires_at is 'After this it must not reach the device.';
comment on column commands.deadline is 'When the clock next acts; null once the status is final.';
comment on column commands.updated_at is 'Last visible change, by the database''s clock: rows are read on by it.';
comment on index commands_idempotency is 'One command a requester and key.';
comment on index commands_device is 'A device''s history.';
comment on index commands_home is 'What changed in a home lately.';
comment on index commands_deadline is 'What the clock acts on next.';
comment on index commands_pending is 'What is to be sent, oldest first.';
comment on index commands_sent is 'What goes again when the broker has lost it.';
comment on index commands_expect is 'Effects that are waited for.';
