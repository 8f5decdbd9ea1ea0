-- When a command expires or times out, or a device is tried again: whichever comes first.
select least(
    (select deadline from commands where deadline is not null order by deadline limit 1),
    (select retry_at from command_queue where retry_at is not null order by retry_at limit 1)
);
