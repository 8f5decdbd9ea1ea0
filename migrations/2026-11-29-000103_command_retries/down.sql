create index commands_undelivered on commands (device_id, sent_at)
    where no_subscribers and acked_at is null and status in ('SENT', 'TIMED_OUT');
create index commands_undelivered_expiry on commands (expires_at) where no_subscribers and deadline is null;
comment on index commands_undelivered is 'Commands to send again once their device shows activity.';
comment on index commands_undelivered_expiry is 'Undelivered commands that have timed out, until they expire too.';

create or replace function release_commands() returns trigger language plpgsql as $$
begin
    update command_queue set n_changes = n_changes + 1, is_held = false where device_id = new.device_id;
    return null;
end $$;

create or replace function queue_command() returns trigger language plpgsql as $$
begin
    insert into command_queue as q (device_id, home_id)
    select d.id, d.home_id from devices d where d.id = new.device_id
    on conflict (device_id) do update set n_changes = q.n_changes + 1, is_held = false;
    return null;
end $$;

comment on column command_queue.is_held is 'There is nothing to send until the next event: the device announced that it is offline, or the broker dropped its commands because nobody was subscribed.';
comment on column commands.no_subscribers is 'The broker dropped it because nobody was subscribed (MQTT 5, no matching subscribers). It is sent again once the device shows activity.';
update command_queue set is_held = false where retry_at is not null;
alter table command_queue drop column retry_at, drop column n_retries;
