-- The next commands that the broker lost with our session, the oldest first. One that has expired is not sent again: it
-- times out as it would have.
select c.id
from commands c
where c.status = 'SENT' and c.acked_at is null and c.sent_at <= :before and c.expires_at > :now
order by c.sent_at
limit :limit;
