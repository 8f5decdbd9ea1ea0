-- Steps from home to home by the index, because the log is long.
with recursive logged_home (id) as (
    select min(home_id)
    from audit_log
    union all
    select (select min(home_id) from audit_log where home_id > logged_home.id)
    from logged_home
    where id is not null
)
select id
from logged_home
where id is not null
    and not exists (select from homes h where h.id = logged_home.id)
limit :limit;
