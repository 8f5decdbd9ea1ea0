-- Materialized, so that the lock function runs for exactly these devices.
with asked as materialized (
    select device from unnest(:devices::bigint[]) device
)
select device
from asked
where pg_try_advisory_lock(:class::integer, hashint8(device));
