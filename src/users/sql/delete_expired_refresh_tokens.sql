-- Rows that a session is just using are skipped: neither waits for the other.
delete from refresh_tokens
where id = any (array(
    select id
    from refresh_tokens
    where expires_at <= :now
    limit :limit
    for update skip locked
))
