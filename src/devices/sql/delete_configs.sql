-- Deletes the configurations of a deleted device, locked in the order in which every statement locks them.
with locked as materialized (
    select device_id, version from device_configs where device_id = :device order by version for update
)
delete from device_configs c using locked
where c.device_id = locked.device_id and c.version = locked.version
