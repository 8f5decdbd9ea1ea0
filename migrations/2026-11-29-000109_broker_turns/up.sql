-- Homes take turns at the broker: an index finds the next home, and the rows of each in order.
create index broker_cleanups_uncleared on broker_cleanups (home_id, id) where cleared_at is null;
create index broker_cleanups_cleared on broker_cleanups (cleared_at) where cleared_at is not null;
comment on index broker_cleanups_uncleared is 'Homes with deleted devices for which the broker has deleted nothing yet, and these devices.';
comment on index broker_cleanups_cleared is 'Deleted devices for which the broker is asked a second time.';

create index broker_cleanups_segments on broker_cleanups (home_segment, device_segment) where home_segment is not null;
comment on index broker_cleanups_segments is 'Whether a deleted device used a topic.';

drop index mqtt_clients_pending;
create index mqtt_clients_pending on mqtt_clients (
    (credential_id is null or remove_first), split_part(username, '/', 1), changed_at, username
) where credential_id is null or sealed_password is not null;
comment on index mqtt_clients_pending is 'Removals and passwords that the broker has not confirmed, by home, oldest first.';

create index device_credentials_secret on device_credentials (secret_hash);
comment on index device_credentials_secret is 'Whether a password is still valid, for the broker of `smarthome dev`.';
