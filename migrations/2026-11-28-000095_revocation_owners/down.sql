comment on table revocations is
    'What has ended of late: a session; a membership (user and home); a home; every token of a user that belongs to no session. Read by every server, forgotten once no token can outlive it.';
comment on column revocations.user_id is 'No reference: what has ended stays ended when its user is gone.';
comment on column revocations.session_id is 'Family of refresh tokens, `sid` of access tokens.';
comment on column refresh_tokens.used_at is 'When it was exchanged for its successor.';
