-- Devices of a home from an id on, with their home and room. The version differs once any of it has changed.
select
    d.id, d.home_id, h.key, d.key, d.name, d.mac_address, d.type, d.room_id, d.created_at,
    s.home_segment, s.device_segment,
    h.id, h.key, h.name, h.timezone, h.created_at,
    r.name,
    concat_ws('/', d.xmin, h.xmin, r.xmin, s.home_segment, s.device_segment)
from devices d
    join homes h on h.id = d.home_id
    left join rooms r on r.id = d.room_id
    left join device_states s on s.device_id = d.id
where d.home_id = :home::bigint
    and d.id >= :first::bigint
order by d.id
limit :limit::bigint
