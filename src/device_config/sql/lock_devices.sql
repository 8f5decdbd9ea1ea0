select d.id as device_id
from devices d
where d.id = any (:devices::bigint[])
order by d.id
for key share;
