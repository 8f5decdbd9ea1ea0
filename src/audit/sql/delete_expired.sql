-- Looks only at the oldest entries, because the log is long.
delete from audit_log
where id in (
    select id
    from (
        select id, at
        from audit_log
        order by id
        limit :limit
    ) oldest
    where at < now() - audit_kept_for()
);
