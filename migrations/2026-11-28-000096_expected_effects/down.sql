drop index commands_expect;
create index commands_expect on commands (dispatched_at)
    where expect is not null and dispatched_at is not null and status in ('PENDING', 'SENT', 'ACKED', 'TIMED_OUT');
comment on index commands_expect is 'Effects that are waited for.';
