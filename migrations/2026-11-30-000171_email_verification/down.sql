delete from account_tokens where purpose = 'EMAIL';
alter table account_tokens
    drop column email,
    drop constraint account_tokens_purpose_check,
    add constraint account_tokens_purpose_check check (purpose in ('NEW_PASSWORD'));
comment on column account_tokens.purpose is 'NEW_PASSWORD: sets a new password without the old one. A used one is deleted with all others of its user.';
alter table users drop column email_verified;
