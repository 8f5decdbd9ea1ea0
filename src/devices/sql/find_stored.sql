-- What these devices have stored on a day; a device that stored nothing has no row.
select s.device_id, s.stored_bytes
from device_states s
where s.device_id = any(:devices::bigint[]) and s.stored_day = :day;
