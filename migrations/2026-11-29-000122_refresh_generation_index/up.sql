-- What a refresh asks of the other tokens of its session then costs the same however many there were.
create index refresh_tokens_generation on refresh_tokens (family, generation);
drop index refresh_tokens_family;
comment on column refresh_tokens.used_at is 'When a token of its generation was first exchanged, by the database''s clock: an exchange soon after is allowed until a token of a later generation is used; where the generation has several tokens, from the network of the first exchange. Any other one is a replay.';
