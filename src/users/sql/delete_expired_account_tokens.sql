-- Rows that a request is just using are skipped: neither waits for the other.
delete from account_tokens
where token_hash = any (array(
    select token_hash
    from account_tokens
    where expires_at <= :now
    limit :limit
    for update skip locked
))
