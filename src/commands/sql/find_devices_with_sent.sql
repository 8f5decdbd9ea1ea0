-- Devices with a sent command without an answer.
select distinct c.device_id
from commands c
where c.status = 'SENT' and c.acked_at is null;
