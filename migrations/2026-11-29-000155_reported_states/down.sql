alter table device_states
    drop column reported,
    drop column reported_at;
