-- How many devices of each of these rooms the viewer sees; with :only_online those that are online. Each room and the
-- viewer's membership are looked up by themselves, or PostgreSQL would read all devices of the viewer's homes.
select r.id, counted.n
from (select distinct id from unnest(:rooms::bigint[]) id) wanted
    cross join lateral (select id, home_id from rooms where id = wanted.id limit 1) r
    cross join lateral (select * from memberships where home_id = r.home_id and user_id = :viewer limit 1) m
    cross join lateral (
        select count(*) as n
        from devices d
        where d.room_id = r.id
            and sees_device(m.device_ids, d.id)
            and case
                when :only_online::boolean then
                    exists (select from device_states s where s.device_id = d.id and s.online)
                else true
            end
    ) counted
