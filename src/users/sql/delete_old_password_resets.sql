-- All but the :kept newest tokens of a user.
delete from password_resets
where token_hash in (
    select token_hash from password_resets where user_id = :user_id order by created_at desc offset :kept
)
