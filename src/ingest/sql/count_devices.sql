select count(*) from devices where id = any(:device_ids::bigint[])
