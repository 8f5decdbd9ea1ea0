-- What the broker may keep for the devices of a home, or for one of them, which are about to be deleted.
insert into broker_cleanups (home_id, device_id, home_key, device_key, home_segment, device_segment, client_id)
select h.id, d.id, h.key, d.key, s.home_segment, s.device_segment,
    -- The client id of a device that an older release registered follows from its keys.
    coalesce(d.mqtt_client_id, d.key || '@' || h.key)
from devices d
    join homes h on h.id = d.home_id
    left join device_states s on s.device_id = d.id
where d.home_id = :home_id
    and d.id between coalesce(:device_id::bigint, 0) and coalesce(:device_id, 9223372036854775807)
