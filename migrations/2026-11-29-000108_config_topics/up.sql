create index device_states_topic on device_states (home_segment, device_segment);
comment on index device_states_topic is 'The device that uses a topic.';

create index retained_clearings_unconfirmed on retained_clearings (device_id, id) where confirmed_at is null;
comment on index retained_clearings_unconfirmed is 'What is to be cleared, by device.';
