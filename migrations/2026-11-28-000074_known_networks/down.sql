drop index refresh_tokens_address;
