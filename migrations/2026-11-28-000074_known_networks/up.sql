create index refresh_tokens_address on refresh_tokens (user_id, (address::inet));
comment on index refresh_tokens_address is 'Whether somebody has signed in from a network, which guesses from elsewhere do not lock them out of.';
