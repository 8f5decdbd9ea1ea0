alter table device_states
    drop column stored_day,
    drop column stored_bytes;
