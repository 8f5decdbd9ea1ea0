-- The message under a topic that another device uses by now must stay, so that clearing is deleted. When the other
-- device is deleted, it gets a clearing of its own.
with needless as (
    delete from retained_clearings l
    where l.device_id = any (:devices::bigint[])
        and exists (
            select
            from retained_configs r
            where r.home_segment = l.home_segment
                and r.device_segment = l.device_segment
        )
    returning l.id
)
select distinct on (l.device_id) l.id, l.device_id, l.home_segment, l.device_segment
from retained_clearings l
where l.confirmed_at is null
    and l.device_id = any (:devices::bigint[])
    and l.id not in (select id from needless)
    -- A new version that is to be published under this topic makes the clearing needless.
    and not exists (
        select
        from device_configs c
        join devices d on d.id = c.device_id
        join homes h on h.id = d.home_id
        left join device_states s on s.device_id = d.id
        where c.status = 'PENDING'
            and coalesce(s.home_segment, h.key) = l.home_segment
            and coalesce(s.device_segment, d.key) = l.device_segment
    )
order by l.device_id, l.id;
