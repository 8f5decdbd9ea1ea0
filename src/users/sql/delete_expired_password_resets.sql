-- Rows that a request is just using are skipped: neither waits for the other.
delete from password_resets
where token_hash = any (array(
    select token_hash
    from password_resets
    where expires_at <= :now
    limit :limit
    for update skip locked
))
