drop index commands_sent;
create index commands_sent on commands (id) where status = 'SENT';
comment on index commands_sent is 'What goes again when the broker has lost it.';

drop index commands_open;
create index commands_pending on commands (device_id, seq) where status = 'PENDING';
comment on index commands_pending is 'What is to be sent, oldest first.';
