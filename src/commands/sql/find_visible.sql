-- The commands with these ids that the viewer may see, each with the viewer's membership. Each is looked up by its id, or
-- PostgreSQL would read the index of all commands of the viewer's homes.
select c.*, c.type as kind, m.user_id as member_id, m.role as member_role, m.scopes as member_scopes
from (select distinct id from unnest(:ids::uuid[]) id) wanted
    cross join lateral (select * from commands where id = wanted.id limit 1) c
    cross join lateral (select * from memberships where home_id = c.home_id and user_id = :viewer limit 1) m
where sees_device(m.device_ids, c.device_id);
