alter table device_states
    add column reported jsonb,
    add column reported_at timestamptz;
comment on column device_states.reported is 'What the device last reported itself to be: the fields of its newest status that is not "offline", without those that have a column.';
comment on column device_states.reported_at is 'When that status was made by the device''s clock, never after its receipt; without a usable clock its receipt. A status with an older time by the device''s clock is late and changes nothing.';
