-- The last of the next 5,000 readings of a home. The number is written out, so that the planner knows how few
-- rows it reads.
select id
from telemetry
where home_id = :home::bigint
    and id > :after::bigint
order by id
offset 4999
limit 1
