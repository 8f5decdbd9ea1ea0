-- What a refresh asks of the other tokens of its session then costs the same however many there were.
create index refresh_tokens_generation on refresh_tokens (family, generation);
drop index refresh_tokens_family;
comment on column refresh_tokens.generation is 'How many exchanges of its family came before it. Exchanges of one token within the grace period give tokens of one generation, of which one may be used.';
comment on column refresh_tokens.used_at is 'When it was first exchanged, by the database''s clock: it may be exchanged again soon after, until a token of its own or of a later generation is used. Anything else is a replay.';
