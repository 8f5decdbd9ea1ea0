-- How many devices of each of these homes the viewer sees; with :only_online those that are online. A home has at most
-- 10,000 devices.
select m.home_id, counted.n
from memberships m
    cross join lateral (
        select count(*) as n
        from devices d
        where d.home_id = m.home_id
            and sees_device(m.device_ids, d.id)
            and case
                when :only_online::boolean then
                    exists (select from device_states s where s.device_id = d.id and s.online)
                else true
            end
    ) counted
where m.user_id = :viewer
    and m.home_id = any (:homes::bigint[])
