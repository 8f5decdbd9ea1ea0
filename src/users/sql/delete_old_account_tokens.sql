-- All but the :kept newest tokens of a user for one purpose.
delete from account_tokens
where token_hash in (
    select token_hash
    from account_tokens
    where user_id = :user_id and purpose = :purpose
    order by created_at desc
    offset :kept
)
