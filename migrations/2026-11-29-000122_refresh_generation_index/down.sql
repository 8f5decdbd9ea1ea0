create index refresh_tokens_family on refresh_tokens (family);
drop index refresh_tokens_generation;
