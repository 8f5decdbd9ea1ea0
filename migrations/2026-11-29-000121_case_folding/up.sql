-- Lower case by Unicode, whatever the locale of the database is: in the locale C, `lower` knows ASCII only. PostgreSQL without
-- ICU has only the locale of the database. This is not the full case folding of Unicode: "ß" and "ss" differ, and so do the two
-- small forms of sigma.
do $$
begin
    execute format(
        'create function fold_case(text) returns text immutable parallel safe language sql as ''select lower($1 collate %s)''',
        case when exists (select from pg_collation where collname = 'und-x-icu') then '"und-x-icu"' else '"default"' end
    );
end
$$;
comment on function fold_case is 'For comparing names without regard to case.';

-- Names that were different in the locale of the database may be equal now: the later ones get their id. Where a room has that
-- name already, they get a number, too.
drop index rooms_name;
do $$
declare
    room record;
    new_name text;
    number integer;
begin
    for room in
        select r.id, r.home_id, r.name
        from rooms r
        where exists (
            select from rooms o where o.home_id = r.home_id and o.id < r.id and fold_case(o.name) = fold_case(r.name)
        )
        order by r.id
    loop
        number := 1;
        new_name := left(room.name, 75) || ' (' || room.id || ')';
        while exists (
            select from rooms o where o.home_id = room.home_id and fold_case(o.name) = fold_case(new_name)
        ) loop
            number := number + 1;
            new_name := left(room.name, 65) || ' (' || room.id || ', ' || number || ')';
        end loop;
        update rooms set name = new_name where id = room.id;
    end loop;
end
$$;
create unique index rooms_name on rooms (home_id, fold_case(name));
