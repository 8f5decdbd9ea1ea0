-- Commands that timed out stay for long, and their effects count for an hour only: they have an index by the time of
-- the timeout, so that reading the expected effects never passes the old ones.
drop index commands_expect;
create index commands_expect on commands (home_id, dispatched_at)
    where expect is not null and dispatched_at is not null and status in ('PENDING', 'SENT', 'ACKED');
create index commands_late_effects on commands (finished_at) include (home_id, dispatched_at, id)
    where expect is not null and dispatched_at is not null and status = 'TIMED_OUT';
comment on index commands_expect is 'Expected effects of open commands, by home: each home has a share of those that a server observes.';
comment on index commands_late_effects is 'Expected effects of commands that timed out, by the time of the timeout: they count for a while.';
