-- Up to :limit devices of the home with the key :home, or of all homes where it is null, by home and id, after the device
-- :after of the home :after_home.
select
    d.home_id, d.id, h.key, d.key, d.name, d.type, d.created_at,
    coalesce(s.online, false), s.last_seen_at, s.firmware_version
from devices d
    join homes h on h.id = d.home_id
    left join device_states s on s.device_id = d.id
where (d.home_id, d.id) > (:after_home, :after)
    and (:home::text is null or d.home_id = (select o.id from homes o where o.key = :home))
order by d.home_id, d.id
limit :limit
