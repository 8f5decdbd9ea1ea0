drop index commands_unheard;
create index commands_unheard on commands (expires_at) where unheard;
comment on index commands_unheard is 'What may go again once its device is heard: looked through every few seconds, so without what has expired.';
