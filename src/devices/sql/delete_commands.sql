-- Deletes the commands of a deleted device, locked in the order in which every statement locks commands.
with locked as materialized (
    select id from commands where device_id = :device order by id for update
)
delete from commands c using locked where c.id = locked.id
