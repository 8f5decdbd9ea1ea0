-- The number of parked readings, up to a limit.
select count(*)
from (select from parked_readings limit :limit::bigint) parked
