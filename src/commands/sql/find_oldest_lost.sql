-- Of each device the oldest command that the broker lost with our session.
select lost.id
from unnest(:devices::bigint[]) device (id)
cross join lateral (
    select c.id
    from commands c
    where c.device_id = device.id
        and c.status = 'SENT'
        and c.acked_at is null
        and c.sent_at <= :before
        and c.expires_at > :now
    order by c.seq
    limit 1
) lost;
