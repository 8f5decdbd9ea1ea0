-- A command that nobody was subscribed to stays PENDING, and its device is tried again with growing pauses.
alter table command_queue
    add column retry_at timestamptz,
    add column n_retries smallint not null default 0;
create index command_queue_retries on command_queue (retry_at) where retry_at is not null;

comment on column command_queue.is_held is 'There is nothing to send until the next event or retry_at: the device announced that it is offline, or nobody was subscribed to its topic.';
comment on column command_queue.retry_at is 'The next attempt, after one without subscribers. Set only while is_held.';
comment on column command_queue.n_retries is 'Attempts without subscribers since the device was active, up to 4: the pauses between them double.';
comment on column commands.no_subscribers is 'The broker dropped it at the last attempt because nobody was subscribed (MQTT 5, no matching subscribers). It is PENDING then, or it has expired.';

create or replace function queue_command() returns trigger language plpgsql as $$
begin
    insert into command_queue as q (device_id, home_id)
    select d.id, d.home_id from devices d where d.id = new.device_id
    on conflict (device_id) do update set n_changes = q.n_changes + 1, is_held = false, retry_at = null;
    return null;
end $$;

create or replace function release_commands() returns trigger language plpgsql as $$
begin
    update command_queue
    set n_changes = n_changes + 1, is_held = false, retry_at = null, n_retries = 0
    where device_id = new.device_id;
    return null;
end $$;

-- Those that were SENT or TIMED_OUT without subscribers are sent again, unless a newer one was: sent later, the older one
-- would undo it.
update commands c
set
    status = 'PENDING',
    sent_at = null,
    finished_at = null,
    error = null,
    deadline = c.expires_at,
    updated_at = clock_timestamp()
where c.no_subscribers
    and c.acked_at is null
    and c.status in ('SENT', 'TIMED_OUT')
    and c.expires_at > now()
    and not exists (
        select
        from commands n
        where n.device_id = c.device_id
            and n.seq > c.seq
            and n.dispatched_at is not null
            and (not n.no_subscribers or n.may_have_been_delivered)
    );
update commands set no_subscribers = false where no_subscribers and acked_at is null and status in ('SENT', 'TIMED_OUT');

drop index commands_undelivered;
drop index commands_undelivered_expiry;
