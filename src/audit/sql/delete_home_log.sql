delete from audit_log
where id in (
    select id
    from audit_log
    where home_id = :home
    limit :limit
);
