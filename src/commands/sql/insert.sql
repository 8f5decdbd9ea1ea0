-- No row where a command of the same requester and idempotency key exists.
insert into commands as c (
    id, home_id, device_id, type, payload, source, correlation_id, on_stale, expect, status, requested_by,
    idempotency_key, body_digest, timeout_seconds, created_at, expires_at, deadline
)
values (
    :id, :home, :device, :kind, :payload, :source, :correlation_id, :on_stale, :expect, 'PENDING', :requester,
    :idempotency_key, :body_digest, :timeout_seconds, :now, :expires_at, :expires_at
)
on conflict do nothing
returning c.*, c.type as kind;
