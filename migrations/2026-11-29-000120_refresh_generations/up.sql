alter table refresh_tokens add column generation integer not null default 0;
-- Of the tokens of a session so far, the only unused one is the newest.
update refresh_tokens set generation = 1 where used_at is null;
comment on column refresh_tokens.generation is 'How many exchanges of its family came before it. Exchanges of one token within the grace period give tokens of one generation, which count as used together.';
comment on column refresh_tokens.used_at is 'When a token of its generation was first exchanged, by the database''s clock: an exchange soon after is allowed until a token of a later generation is used, any other one is a replay.';
