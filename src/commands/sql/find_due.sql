-- Devices with a command to send, longest waiting first.
select waiting.device_id
from (
    select c.device_id, min(c.seq) as seq
    from commands c
    where c.status = 'PENDING' and c.expires_at > :now and c.device_id <> all(:busy)
    group by c.device_id
) waiting
-- A device that reported offline is not listening; a device that is merely silent may be.
where not exists (select from device_states s where s.device_id = waiting.device_id and s.announced_offline)
    -- The commands of a deleted home stay for a while.
    and exists (select from devices d where d.id = waiting.device_id)
order by waiting.seq
limit :limit;
