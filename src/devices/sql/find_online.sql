-- Every device that is online.
select d.home_id, d.id
from device_states s
    join devices d on d.id = s.device_id
where s.online
