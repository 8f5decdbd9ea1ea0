alter table password_resets rename to account_tokens;
alter index password_resets_pkey rename to account_tokens_pkey;
alter index password_resets_user rename to account_tokens_user;
alter index password_resets_expiry rename to account_tokens_expiry;
alter table account_tokens rename constraint password_resets_token_hash_check to account_tokens_token_hash_check;
alter table account_tokens rename constraint password_resets_user_id_fkey to account_tokens_user_id_fkey;
alter table account_tokens
    add column purpose text not null default 'NEW_PASSWORD',
    add constraint account_tokens_purpose_check check (purpose in ('NEW_PASSWORD'));
alter table account_tokens alter column purpose drop default;
comment on table account_tokens is 'Tokens for one use that a person gets by mail or from the operator.';
comment on column account_tokens.purpose is 'NEW_PASSWORD: sets a new password without the old one. A used one is deleted with all others of its user.';
