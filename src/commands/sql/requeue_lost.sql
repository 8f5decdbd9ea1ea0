-- Makes commands pending again that the broker lost with our session. A command that has expired is not sent again;
-- it times out as it would have.
with lost as materialized (
    select c.id
    from commands c
    where c.status = 'SENT' and c.acked_at is null and c.sent_at <= :before and c.expires_at > :now
    order by c.id
    for update
)
update commands c
set
    may_have_been_delivered = c.may_have_been_delivered or not c.no_subscribers,
    status = 'PENDING',
    sent_at = null,
    finished_at = null,
    error = null,
    deadline = c.expires_at,
    no_subscribers = false,
    updated_at = clock_timestamp()
from lost
where c.id = lost.id
returning c.*, c.type as kind;
