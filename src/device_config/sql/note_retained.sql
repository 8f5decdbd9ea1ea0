-- Records the topic under which the broker may retain the version. The row is needs_publish until the broker confirms
-- the message.
with outgoing as (
    select *
    from unnest(:devices::bigint[], :versions::integer[], :home_segments::text[], :device_segments::text[])
        o (device_id, version, home_segment, device_segment)
),
-- A device that listens to another topic now leaves a copy under the former one.
left_behind as (
    insert into retained_clearings (device_id, home_segment, device_segment)
    select r.device_id, r.home_segment, r.device_segment
    from retained_configs r
    join outgoing o on o.device_id = r.device_id
    where (r.home_segment, r.device_segment) <> (o.home_segment, o.device_segment)
)
insert into retained_configs (device_id, home_segment, device_segment, version, needs_publish)
select device_id, home_segment, device_segment, version, true
from outgoing
order by device_id
on conflict (device_id) do update
set home_segment = excluded.home_segment,
    device_segment = excluded.device_segment,
    version = excluded.version,
    needs_publish = true;
