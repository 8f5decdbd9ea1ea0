drop trigger note_used_home_key on devices;
drop function note_used_home_key();
drop table used_home_keys;
