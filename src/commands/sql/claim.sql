-- Claims the oldest pending command of each device.
with oldest as materialized (
    select pending.id
    from unnest(:devices::bigint[]) wanted (id)
        cross join lateral (
            select c.id
            from commands c
            where c.device_id = wanted.id
                and c.status = 'PENDING'
                and c.deadline is not null
                and c.expires_at > :now
            order by c.seq
            limit 1
        ) pending
), locked as materialized (
    -- The status is checked again under the lock: the command may have been cancelled in between.
    select c.id, c.device_id
    from commands c
    where c.id in (select id from oldest) and c.status = 'PENDING'
    order by c.id
    for update
)
update commands c
set
    may_have_been_delivered = c.may_have_been_delivered or c.dispatched_at is not null,
    dispatched_at = coalesce(c.dispatched_at, :now)
from locked
    join devices d on d.id = locked.device_id
    join homes h on h.id = d.home_id
    left join device_states s on s.device_id = d.id
where c.id = locked.id
returning
    -- As the device spells its topics.
    coalesce(s.home_segment, h.key) as home_segment,
    coalesce(s.device_segment, d.key) as device_segment,
    c.*,
    c.type as kind;
