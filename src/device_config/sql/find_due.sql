-- Devices to which a message must be sent, in this order: new versions, oldest first; versions to publish again;
-- topics to clear. One statement for the three kinds of work: the dispatcher polls with one round trip, and a
-- device with several kinds of work comes once. A partial index serves each kind.
select device_id
from (
    (
        select c.device_id, 1 as rank, c.created_at as since
        from device_configs c
        where c.status = 'PENDING'
            -- A device that was deleted with its home leaves versions behind for a while.
            and exists (select from devices d where d.id = c.device_id)
            and c.device_id <> all (:busy::bigint[])
            and (c.device_id, c.version) not in (
                select * from unnest(:unreadable_devices::bigint[], :unreadable_versions::integer[])
            )
        order by c.created_at, c.device_id
        limit :limit
    )
    union all
    (
        select r.device_id, 2, null
        from retained_configs r
        cross join lateral (
            select device_id, version
            from device_configs
            where device_id = r.device_id
            order by version desc
            limit 1
        ) newest
        where r.needs_publish
            and r.device_id <> all (:busy::bigint[])
            and (newest.device_id, newest.version) not in (
                select * from unnest(:unreadable_devices::bigint[], :unreadable_versions::integer[])
            )
        order by r.device_id
        limit :limit
    )
    union all
    (
        select l.device_id, 3, null
        from retained_clearings l
        where l.confirmed_at is null
            and l.device_id <> all (:busy::bigint[])
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
        order by l.device_id, l.id
        limit :limit
    )
) due
group by device_id
order by min(rank), min(since), device_id
limit :limit;
