create index refresh_tokens_family on refresh_tokens (family);
drop index refresh_tokens_generation;
comment on column refresh_tokens.used_at is 'When a token of its generation was first exchanged, by the database''s clock: an exchange soon after is allowed until a token of a later generation is used, any other one is a replay.';
