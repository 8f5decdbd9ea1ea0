-- Home and device of the topics under which the broker may keep something of a deleted device.
select distinct b.home_key, b.device_key
from broker_cleanups b
where b.cleared_at is null
    or not exists (
        select
        from devices d
        join homes h on h.id = d.home_id
        where h.key = b.home_key and d.key = b.device_key
    )
order by b.home_key, b.device_key
