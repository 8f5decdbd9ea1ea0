-- Those of these devices that no longer have these versions, as find_registry_entries.sql makes them, or are deleted.
select known.id
from unnest(:ids::bigint[], :versions::text[]) known (id, version)
    left join devices d on d.id = known.id
    left join homes h on h.id = d.home_id
    left join rooms r on r.id = d.room_id
    left join device_states s on s.device_id = d.id
where concat_ws('/', d.xmin, h.xmin, r.xmin, s.home_segment, s.device_segment) <> known.version
