-- Lower case by Unicode, whatever the locale of the database is: in the locale C, `lower` knows ASCII only. PostgreSQL without
-- ICU has only the locale of the database.
do $$
begin
    execute format(
        'create function fold_case(text) returns text immutable parallel safe language sql as ''select lower($1 collate %s)''',
        case when exists (select from pg_collation where collname = 'und-x-icu') then '"und-x-icu"' else '"default"' end
    );
end
$$;
comment on function fold_case is 'For comparing names without regard to case.';

-- Names that were different in the locale of the database may be equal now: the later ones get their id.
update rooms r
set name = left(r.name, 75) || ' (' || r.id || ')'
where exists (
    select from rooms o where o.home_id = r.home_id and o.id < r.id and fold_case(o.name) = fold_case(r.name)
);
drop index rooms_name;
create unique index rooms_name on rooms (home_id, fold_case(name));
