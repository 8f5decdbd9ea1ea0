create table used_home_keys (key text primary key);
comment on table used_home_keys is 'Chosen keys of homes in which devices were ever registered. A key stays here after its home is deleted, and no other home gets it: the broker may keep something under its topics. Keys that are ids need no row, because an id is given once.';

-- Homes of which the devices, if there were any, may be deleted already.
insert into used_home_keys (key) select key from homes where key <> id::text;

create function note_used_home_key() returns trigger language plpgsql as $$
begin
    insert into used_home_keys (key)
    select distinct h.key
    from registered r
    join homes h on h.id = r.home_id
    where h.key <> h.id::text
    order by h.key
    on conflict do nothing;
    return null;
end $$;
comment on function note_used_home_key() is 'Records that a device was registered under the key of a home.';
create trigger note_used_home_key after insert on devices referencing new table as registered
    for each statement execute function note_used_home_key();
