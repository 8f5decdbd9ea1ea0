-- Undelivered commands that have timed out and expired are not sent again: nobody needs to look for them.
with expired as materialized (
    select c.id
    from commands c
    where c.no_subscribers
        and c.id in (
            select id
            from commands
            where no_subscribers and deadline is null and expires_at <= :now
            order by expires_at
            limit :limit
        )
    order by c.id
    for update
)
update commands c set no_subscribers = false from expired where c.id = expired.id;
