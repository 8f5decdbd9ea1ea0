-- The last of the next 20,000 readings of a home. The number is written out, so that the planner knows how few
-- rows it reads. read_after.sql says why pairs are compared.
select id
from telemetry
where (home_id, id) > (:home::bigint, :after::bigint)
    and (home_id, id) <= (:home::bigint, 9223372036854775807)
order by home_id, id
offset 19999
limit 1
