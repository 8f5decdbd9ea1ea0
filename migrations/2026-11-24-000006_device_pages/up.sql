create index devices_home on devices (home_id, id);
comment on index devices_home is 'A page of a home''s devices, in the order of their ids.';
