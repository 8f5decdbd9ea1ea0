drop index commands_unanswered;
alter table commands drop column resends;
alter table device_states
    drop column silent_since,
    drop column returned_at,
    drop column returned_from_offline;
