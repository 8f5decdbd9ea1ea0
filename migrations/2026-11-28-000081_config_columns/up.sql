alter table retained_configs rename column is_lost to needs_publish;
alter table retained_clearings rename column done_at to confirmed_at;
alter index retained_configs_lost rename to retained_configs_needs_publish;

create or replace function move_retained_config() returns trigger language plpgsql as $$
begin
    update retained_configs set needs_publish = true
    where device_id = new.device_id
        and (home_segment is distinct from new.home_segment or device_segment is distinct from new.device_segment);
    return null;
end $$;

comment on table device_configs is 'Versions of the devices'' configurations; the newest is the desired one.';
comment on column device_configs.config is 'The public part, as text, with "[secret]" instead of each secret.';
comment on column device_configs.errors is 'The device''s reasons to reject the version, by key.';
comment on column device_configs.sent_at is 'When the broker confirmed the message, or the first answer came before that.';
comment on column device_configs.applied_at is 'When the device answered APPLIED.';
comment on column device_configs.answered_at is 'When the device answered APPLIED or REJECTED.';
comment on column device_configs.updated_at is 'Last change by the database''s clock. Subscriptions catch up by it.';
comment on table retained_configs is 'The configuration that the broker retains for a device, and its topic. Written before the message is published.';
comment on column retained_configs.needs_publish is 'The broker may not have it: in flight, lost by the broker, or under a topic to which the device no longer listens. It is published again.';
comment on column retained_configs.confirmed_at is 'When the broker last confirmed it. A broker that crashes soon after may lose it all the same.';
comment on table retained_clearings is 'Topics whose retained configuration must be cleared at the broker: of deleted devices, and of former topics.';
comment on column retained_clearings.device_id is 'The device that it was for; it may be deleted.';
comment on column retained_clearings.confirmed_at is 'When the broker confirmed it. The row is kept for a while, because a broker that crashes soon after may restore the message.';
comment on function clear_retained_config() is 'Records that the configuration retained for a deleted device must be cleared.';
comment on function move_retained_config() is 'Records that the configuration retained for a device must be published under another topic.';
