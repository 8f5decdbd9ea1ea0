-- The time of receipt distinguishes a reading of an earlier attempt from a device's resend.
select n.position, t.id
from unnest(
    :device_ids::bigint[],
    :recorded_at::timestamptz[],
    :dedups::bigint[],
    :received_at::timestamptz[]
) with ordinality n (device_id, recorded_at, dedup, received_at, position)
join telemetry t using (device_id, recorded_at, dedup, received_at)
