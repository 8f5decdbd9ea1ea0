-- Writes the state changes of one batch, at most one a device, and returns the states after them. Deleted devices are
-- left out, and devices that another server has seen since :unless_seen_since.
insert into device_states as s (
    device_id, online, online_changed_at, last_seen_at, firmware_version, signal_strength, battery_level, metadata,
    reported, reported_at, home_segment, device_segment, announced_offline, shed_messages, last_shed_at, backlog_since,
    returned_at, silent_since, returned_from_offline, stored_day, stored_bytes
)
select
    n.device_id, n.online, n.at, n.seen_at, n.firmware_version, n.signal_strength, n.battery_level, n.metadata,
    case when stated.is_newest then n.reported end, case when stated.is_newest then n.reported_at end,
    n.home_segment, n.device_segment, coalesce(n.announced_offline, old.announced_offline, false), n.rate_limited, n.rate_limited_at,
    n.backlog_since,
    -- A status after another first message: both belong to one return, and a command that was sent again in between is not
    -- sent a second time. Or the same return again: an attempt whose answer was lost has written it already.
    case when same.is_return then old.returned_at else n.returned_at end,
    case when same.is_return then old.silent_since else coalesce(n.silent_since, old.last_seen_at, '-infinity') end,
    n.returned_from_offline or same.is_return and old.returned_from_offline,
    n.stored_day, n.stored_bytes
from unnest(
        :devices::bigint[], :online::boolean[], :at::timestamptz[], :seen_at::timestamptz[],
        :firmware_versions::text[], :signal_strengths::float8[], :battery_levels::float8[], :metadata::jsonb[],
        :reported::jsonb[], :reported_at::timestamptz[], :by_device_clock::boolean[],
        :home_segments::text[], :device_segments::text[], :unless_seen_since::timestamptz[], :announced_offline::boolean[],
        :rate_limited::bigint[], :rate_limited_at::timestamptz[], :backlog_since::timestamptz[],
        :returned_at::timestamptz[], :silent_since::timestamptz[], :returned_from_offline::boolean[],
        :stored_days::date[], :stored_bytes::bigint[]
    ) n (
        device_id, online, at, seen_at, firmware_version, signal_strength, battery_level, metadata, reported,
        reported_at, by_device_clock, home_segment, device_segment, unless_seen_since, announced_offline, rate_limited,
        rate_limited_at, backlog_since, returned_at, silent_since, returned_from_offline, stored_day, stored_bytes
    )
    join devices d on d.id = n.device_id
    left join device_states old on old.device_id = n.device_id
    cross join lateral (
        select coalesce(n.returned_at < old.returned_at + interval '1 second', false) as is_return
    ) same
    -- A report with a time of the device's clock may be late, unless the clock of a server was ahead when the one before
    -- came. A report without comes in its order.
    cross join lateral (
        select coalesce(
            not n.by_device_clock or n.reported_at >= old.reported_at or old.reported_at > n.at, true
        ) as is_newest
    ) stated
where n.unless_seen_since is null
    or old.last_seen_at is null
    or old.last_seen_at < n.unless_seen_since
    -- It was seen while a clock was ahead: no server hears a device later than now.
    or old.last_seen_at > n.at + interval '15 seconds'
-- Rows are locked in one order, so that two servers never wait for each other.
order by n.device_id
on conflict (device_id) do update set
    online = excluded.online,
    online_changed_at = case
        when s.online = excluded.online then s.online_changed_at
        else excluded.online_changed_at
    end,
    last_seen_at = case
        when s.last_seen_at > excluded.last_seen_at + interval '5 minutes' then excluded.last_seen_at
        else greatest(s.last_seen_at, excluded.last_seen_at)
    end,
    firmware_version = coalesce(excluded.firmware_version, s.firmware_version),
    signal_strength = coalesce(excluded.signal_strength, s.signal_strength),
    battery_level = coalesce(excluded.battery_level, s.battery_level),
    metadata = s.metadata || excluded.metadata,
    reported = coalesce(excluded.reported, s.reported),
    reported_at = coalesce(excluded.reported_at, s.reported_at),
    home_segment = coalesce(excluded.home_segment, s.home_segment),
    device_segment = coalesce(excluded.device_segment, s.device_segment),
    announced_offline = excluded.announced_offline,
    -- The same time again: an attempt whose answer was lost has counted these messages already.
    shed_messages = s.shed_messages + case
        when s.last_shed_at = excluded.last_shed_at then 0
        else excluded.shed_messages
    end,
    last_shed_at = coalesce(excluded.last_shed_at, s.last_shed_at),
    backlog_since = case
        when excluded.last_seen_at is null then s.backlog_since
        else excluded.backlog_since
    end,
    returned_at = coalesce(excluded.returned_at, s.returned_at),
    silent_since = case when excluded.returned_at is null then s.silent_since else excluded.silent_since end,
    returned_from_offline = case
        when excluded.returned_at is null then s.returned_from_offline
        else excluded.returned_from_offline
    end,
    -- A sum only grows: an attempt that is repeated counts nothing twice.
    stored_day = greatest(s.stored_day, excluded.stored_day),
    stored_bytes = case
        when excluded.stored_day > s.stored_day or s.stored_day is null then excluded.stored_bytes
        when excluded.stored_day = s.stored_day then greatest(s.stored_bytes, excluded.stored_bytes)
        else s.stored_bytes
    end
returning
    s.device_id, s.online, s.online_changed_at, s.last_seen_at, s.firmware_version, s.signal_strength,
    s.battery_level, s.metadata, s.reported, s.reported_at, s.shed_messages, s.last_shed_at
