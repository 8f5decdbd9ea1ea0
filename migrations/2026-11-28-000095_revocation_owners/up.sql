comment on table revocations is
    'What ended recently: a session (with its user), an integration''s token (with its home), a membership (user and home), a home, every token of a user that belongs to no session. Every server reads it. Rows are deleted once no token can outlive them.';
comment on column revocations.user_id is 'No reference: what ended stays ended when its user is deleted. Null for sessions in rows of earlier releases.';
comment on column revocations.session_id is 'With a user: a session, the `sid` of access tokens. With a home: an integration''s token.';
comment on column refresh_tokens.used_at is 'When it was exchanged, by the database''s clock: a use soon after is another tab, a later one is a replay.';
