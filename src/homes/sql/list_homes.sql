-- Up to :limit homes by id, after the home :after: their owners, and how many people and devices each has.
select
    h.id, h.key, h.name, h.timezone, h.created_at,
    array(
        select u.email
        from memberships m
            join users u on u.id = m.user_id
        where m.home_id = h.id and m.role = 'OWNER'
        order by u.email
    ),
    (select count(*) from memberships m where m.home_id = h.id and m.scopes is null),
    (select count(*) from devices d where d.home_id = h.id)
from homes h
where h.id > :after
order by h.id
limit :limit
