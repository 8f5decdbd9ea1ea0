alter table users add column email_verified boolean not null default true;
comment on column users.email_verified is 'False from the time when the address was set, if the server demanded its verification then, until the user proves that it is theirs.';
alter table account_tokens
    add column email text,
    drop constraint account_tokens_purpose_check,
    add constraint account_tokens_purpose_check check (purpose in ('NEW_PASSWORD', 'EMAIL')),
    add constraint account_tokens_email_check check ((email is not null) = (purpose = 'EMAIL'));
comment on column account_tokens.purpose is 'NEW_PASSWORD: sets a new password without the old one. A used one is deleted with all others of its user. EMAIL: proves that an e-mail address belongs to the user.';
comment on column account_tokens.email is 'The address that the token was sent to. It proves no other one.';
