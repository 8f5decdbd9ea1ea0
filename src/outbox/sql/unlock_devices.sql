with asked as materialized (
    select device from unnest(:devices::bigint[]) device
)
select device
from asked
where pg_advisory_unlock(:class::integer, hashint8(device));
