-- The homes of which a user is the only owner.
select m.home_id
from memberships m
where m.user_id = :user_id
    and m.role = 'OWNER'
    and not exists (
        select from memberships o where o.home_id = m.home_id and o.role = 'OWNER' and o.user_id <> m.user_id
    )
order by m.home_id;
