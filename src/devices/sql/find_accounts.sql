-- Every device's user names, each with the hash of its newest password and the device's client id. The user name is that
-- of MqttUser. Without devices whose keys a deleted device had, as long as the broker keeps something for that one.
select distinct on (1)
    h.key || '/' || d.key || case c.slot when 1 then '~1' else '' end, c.broker_hash, d.mqtt_client_id
from device_credentials c
    join devices d on d.id = c.device_id
    join homes h on h.id = d.home_id
where (c.expires_at is null or c.expires_at > :now)
    and not exists (
        select
        from broker_cleanups b
        where b.home_key = h.key and b.device_key = d.key and b.cleared_at is null
    )
order by 1, c.id desc
