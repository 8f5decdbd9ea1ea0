-- The next devices after `after` to which a command was not delivered because nobody was subscribed, in the order of
-- their ids, and whether a device has sent something since. A device is found by one index lookup.
with recursive found as (
    (
        select device_id as id, 1 as n
        from commands
        where device_id > :after and no_subscribers and acked_at is null and status in ('SENT', 'TIMED_OUT')
        order by device_id
        limit 1
    )
    union all
    (
        select next.device_id, f.n + 1
        from found f
            cross join lateral (
                select c.device_id
                from commands c
                where c.device_id > f.id and c.no_subscribers and c.acked_at is null and c.status in ('SENT', 'TIMED_OUT')
                order by c.device_id
                limit 1
            ) next
        where f.n < :limit
    )
)
select
    f.id as device_id,
    coalesce((
        select true
        from commands c
        where c.device_id = f.id
            and c.sent_at < (select s.last_seen_at from device_states s where s.device_id = f.id)
            and c.no_subscribers
            and c.acked_at is null
            and c.status in ('SENT', 'TIMED_OUT')
            and c.expires_at > :now
        limit 1
    ), false) as is_seen
from found f
order by f.id;
