alter table refresh_tokens add column address text check (length(address) <= 45);
comment on column refresh_tokens.address is 'Network address of the client that was given the token, if it is known.';
