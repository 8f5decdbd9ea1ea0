drop index commands_late_effects;
drop index commands_expect;
create index commands_expect on commands (home_id, dispatched_at)
    where expect is not null and dispatched_at is not null and status in ('PENDING', 'SENT', 'ACKED', 'TIMED_OUT');
comment on index commands_expect is 'Expected effects, by home: each home has a share of those that a server observes.';
