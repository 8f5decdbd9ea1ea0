-- The next parked readings of a month, in the order in which they are moved.
select recorded_at, id
from parked_readings
where (recorded_at, id) > (:after_at::timestamptz, :after_id::bigint)
    and recorded_at < :before::timestamptz
order by recorded_at, id
limit :limit::bigint
