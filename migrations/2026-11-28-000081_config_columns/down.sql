alter index retained_configs_needs_publish rename to retained_configs_lost;
alter table retained_clearings rename column confirmed_at to done_at;
alter table retained_configs rename column needs_publish to is_lost;

create or replace function move_retained_config() returns trigger language plpgsql as $$
begin
    update retained_configs set is_lost = true
    where device_id = new.device_id
        and (home_segment is distinct from new.home_segment or device_segment is distinct from new.device_segment);
    return null;
end $$;

comment on table device_configs is 'What a device is to be configured like, a row per version; the newest is the desired one.';
comment on column device_configs.config is 'The public part, as text: where a secret belongs stands "[secret]".';
comment on column device_configs.errors is 'Why the device refused it, by key.';
comment on column device_configs.sent_at is 'When the broker had it for certain; an answer is as good a sign.';
comment on column device_configs.applied_at is 'When the device said APPLIED.';
comment on column device_configs.answered_at is 'When the device said APPLIED or REJECTED.';
comment on column device_configs.updated_at is 'Last change by the database''s clock, whoever made it: readers catch up by it.';
comment on table retained_configs is 'What the broker keeps for a device, and under which topic; written before it leaves.';
comment on column retained_configs.is_lost is 'Not known to be at the broker: under way, lost there, or under a topic the device no longer listens on. It goes (again).';
comment on column retained_configs.confirmed_at is 'When the broker last confirmed it: one that crashes soon after may have lost it all the same.';
comment on table retained_clearings is 'Topics whose kept configuration is to be taken away at the broker: of deleted devices, and of former spellings.';
comment on column retained_clearings.device_id is 'The device it was for; it may be no more.';
comment on column retained_clearings.done_at is 'When the broker confirmed it; kept for a while, because one that crashes soon after may bring the message back.';
comment on function clear_retained_config() is 'Notes that what the broker keeps for a device is to be taken away.';
comment on function move_retained_config() is 'Notes that what the broker keeps for a device belongs under another topic.';
