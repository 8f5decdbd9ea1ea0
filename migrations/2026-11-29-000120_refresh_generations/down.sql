comment on column refresh_tokens.used_at is 'When it was exchanged, by the database''s clock: a use soon after is another tab, a later one is a replay.';
alter table refresh_tokens drop column generation;
