drop index rooms_name;
create unique index rooms_name on rooms (home_id, lower(name));
drop function fold_case(text);
