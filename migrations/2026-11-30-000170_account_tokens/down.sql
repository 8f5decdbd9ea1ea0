alter table account_tokens drop column purpose;
alter table account_tokens rename constraint account_tokens_user_id_fkey to password_resets_user_id_fkey;
alter table account_tokens rename constraint account_tokens_token_hash_check to password_resets_token_hash_check;
alter index account_tokens_expiry rename to password_resets_expiry;
alter index account_tokens_user rename to password_resets_user;
alter index account_tokens_pkey rename to password_resets_pkey;
alter table account_tokens rename to password_resets;
comment on table password_resets is 'Tokens that set a new password without the old one. A used one is deleted with all others of its user.';
