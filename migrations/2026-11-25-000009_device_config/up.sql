create table device_configs (
    device_id   bigint      not null references devices (id) on delete cascade,
    version     integer     not null check (version > 0),
    home_id     bigint      not null,
    config      json        not null,
    secrets     bytea,
    status      text        not null check (status in ('PENDING', 'SENT', 'APPLIED', 'REJECTED', 'SUPERSEDED')),
    errors      json,
    created_by  bigint      references users (id) on delete set null,
    created_at  timestamptz not null,
    sent_at     timestamptz,
    applied_at  timestamptz,
    answered_at timestamptz,
    updated_at  timestamptz not null,
    primary key (device_id, version)
);
create index device_configs_changes on device_configs (home_id, updated_at, device_id, version);
create index device_configs_pending on device_configs (created_at, device_id) where status = 'PENDING';
create index device_configs_created_by on device_configs (created_by);
comment on table device_configs is 'What a device is to be configured like, a row per version; the newest is the desired one.';
comment on column device_configs.config is 'The public part, as text: where a secret belongs stands "[secret]".';
comment on column device_configs.secrets is 'The secrets of this version, sealed: 1, fingerprint of the key (4 bytes), nonce, ciphertext. Bound to the device.';
comment on column device_configs.errors is 'Why the device refused it, by key.';
comment on column device_configs.sent_at is 'When the broker had it for certain; an answer is as good a sign.';
comment on column device_configs.applied_at is 'When the device said APPLIED.';
comment on column device_configs.answered_at is 'When the device said APPLIED or REJECTED.';
comment on column device_configs.updated_at is 'Last change by the database''s clock, whoever made it: readers catch up by it.';

create table retained_configs (
    device_id      bigint  primary key references devices (id) on delete cascade,
    home_segment   text    not null,
    device_segment text    not null,
    version        integer not null,
    is_lost        boolean not null,
    confirmed_at   timestamptz
);
create index retained_configs_lost on retained_configs (device_id) where is_lost;
create index retained_configs_topic on retained_configs (home_segment, device_segment);
comment on table retained_configs is 'What the broker keeps for a device, and under which topic; written before it leaves.';
comment on column retained_configs.is_lost is 'Not known to be at the broker: under way, lost there, or under a topic the device no longer listens on. It goes (again).';
comment on column retained_configs.confirmed_at is 'When the broker last confirmed it: one that crashes soon after may have lost it all the same.';

create table retained_clearings (
    id             bigint generated always as identity primary key,
    device_id      bigint not null,
    home_segment   text   not null,
    device_segment text   not null,
    done_at        timestamptz
);
create index retained_clearings_device on retained_clearings (device_id, id);
comment on table retained_clearings is 'Topics whose kept configuration is to be taken away at the broker: of deleted devices, and of former spellings.';
comment on column retained_clearings.device_id is 'The device it was for; it may be no more.';
comment on column retained_clearings.done_at is 'When the broker confirmed it; kept for a while, because one that crashes soon after may bring the message back.';

-- A device goes in several ways, with its home for one: none may leave a configuration at the broker.
create function clear_retained_config() returns trigger language plpgsql as $$
begin
    insert into retained_clearings (device_id, home_segment, device_segment)
    values (old.device_id, old.home_segment, old.device_segment);
    return null;
end $$;
comment on function clear_retained_config() is 'Notes that what the broker keeps for a device is to be taken away.';
create trigger clear_retained_config after delete on retained_configs
    for each row execute function clear_retained_config();

-- A device that speaks by other names listens by them too: its configuration follows.
create function move_retained_config() returns trigger language plpgsql as $$
begin
    update retained_configs set is_lost = true
    where device_id = new.device_id
        and (home_segment is distinct from new.home_segment or device_segment is distinct from new.device_segment);
    return null;
end $$;
comment on function move_retained_config() is 'Notes that what the broker keeps for a device belongs under another topic.';
create trigger move_retained_config after update of home_segment, device_segment on device_states for each row
    when (old.home_segment is distinct from new.home_segment or old.device_segment is distinct from new.device_segment)
    execute function move_retained_config();
create trigger move_retained_config_first after insert on device_states for each row
    when (new.home_segment is not null) execute function move_retained_config();
