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
    -- A new version that is to be published under this topic makes the clearing needless. The devices that use the topic
    -- are looked up by an index each: those that sent under it, and those that never sent anything.
    and not exists (
        select
        from device_states s
        where s.home_segment = l.home_segment
            and s.device_segment = l.device_segment
            and exists (select from device_configs c where c.device_id = s.device_id and c.status = 'PENDING')
    )
    and not exists (
        select
        from homes h
        join devices d on d.home_id = h.id and d.key = l.device_segment
        where h.key = l.home_segment
            and exists (select from device_configs c where c.device_id = d.id and c.status = 'PENDING')
            and not exists (select from device_states s where s.device_id = d.id and s.home_segment is not null)
    )
order by l.device_id, l.id;
