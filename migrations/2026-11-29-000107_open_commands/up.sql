-- A device keeps up to 1,000 commands, and few are open. An open command has a deadline.
drop index commands_pending;
create index commands_open on commands (device_id, seq) where deadline is not null;
comment on index commands_open is 'The open commands of a device, oldest first.';

drop index commands_sent;
create index commands_sent on commands (sent_at) where status = 'SENT' and acked_at is null;
comment on index commands_sent is 'Unanswered commands by the time they were sent: the broker may have lost those up to a time.';
