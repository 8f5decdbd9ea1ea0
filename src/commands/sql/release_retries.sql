-- Ends the pause of devices whose next attempt is due, and of those in `active`: they have sent something since. Rows that
-- are locked are about to change.
with due as materialized (
    select device_id
    from command_queue
    where retry_at <= :now
    order by retry_at
    limit :limit
    for update skip locked
), awaited as materialized (
    select device_id
    from command_queue
    where device_id = any(:active::bigint[]) and retry_at is not null
    for update skip locked
)
update command_queue q
set
    is_held = false,
    retry_at = null,
    n_retries = case when q.device_id = any(:active::bigint[]) then 0 else q.n_retries end,
    n_changes = q.n_changes + 1
where q.device_id = any(array(select device_id from due union all select device_id from awaited));
