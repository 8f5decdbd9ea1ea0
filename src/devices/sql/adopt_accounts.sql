-- Adds the broker accounts of devices that were registered before the server provisioned the broker: one for each user
-- name, with its newest password. The user name is that of MqttUser.
insert into mqtt_clients (username, credential_id, changed_at)
select distinct on (1)
    h.key || '/' || d.key || case c.slot when 1 then '~1' else '' end, c.id, :now::timestamptz
from device_credentials c
    join devices d on d.id = c.device_id
    join homes h on h.id = d.home_id
where c.expires_at is null or c.expires_at > :now
order by 1, c.id desc
on conflict do nothing
