-- Up to :limit people who can sign in, by id, after the account :after, with the number of homes that each is a member of.
select u.id, u.email, u.name, u.created_at, (select count(*) from memberships m where m.user_id = u.id)
from users u
where u.home_id is null and u.id > :after
order by u.id
limit :limit
