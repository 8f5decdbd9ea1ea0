-- The ids of up to :limit devices of each home that the viewer sees and that pass the filter, the newest first, before the
-- device :before. The index has them in this order, so those behind the page are not read.
select d.home_id, d.id
from memberships m
    cross join lateral (
        select d.home_id, d.id
        from filtered_devices(
                m.home_id, m.device_ids, :is_filtered, :room, :kinds, :online, :battery_below, :last_seen_before, :search
            ) d
        where d.id < :before
        order by d.id desc
        limit :limit
    ) d
where m.user_id = :viewer
    and m.home_id = any (:homes::bigint[])
order by d.home_id, d.id desc
