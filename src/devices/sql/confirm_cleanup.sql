-- The first time the row is kept, the second time it is deleted.
with repeated as (
    delete from broker_cleanups where id = :id and cleared_at is not null returning id
)
update broker_cleanups
set cleared_at = :now
where id = :id and cleared_at is null and id not in (select id from repeated)
