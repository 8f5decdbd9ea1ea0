-- One row per batch. The packet of a device that was deleted meanwhile is left out, and a row that would have none.
insert into committed_packets (client_id, packet_ids, digests)
select
    :client_id::text,
    array_agg(n.id order by n.position),
    array_agg(n.digest order by n.position)
from unnest(:packet_ids::integer[], :digests::bigint[], :device_ids::bigint[])
    with ordinality n (id, digest, device_id, position)
left join devices d on d.id = n.device_id
where n.device_id is null or d.id is not null
having count(*) > 0
returning id
