alter table device_states
    drop column shed_messages,
    drop column last_shed_at,
    drop column backlog_since;
