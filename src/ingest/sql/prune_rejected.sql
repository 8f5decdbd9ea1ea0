-- Keeps the newest :max_kept messages of each home; deletes at most :max_deleted of the others, oldest first.
delete from rejected_messages
where id in (
    select oldest.id
    from unnest(:home_ids::bigint[]) due (home_id)
    -- The newest message to delete, looked up once per home: as a condition it would be for every row.
    cross join lateral (
        select id
        from rejected_messages m
        where m.home_id = due.home_id
        order by id desc
        limit 1 offset :max_kept
    ) edge
    cross join lateral (
        select id
        from rejected_messages m
        where m.home_id = due.home_id and m.id <= edge.id
        order by id
        limit :max_deleted
    ) oldest
)
