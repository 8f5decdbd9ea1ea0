-- Those of these devices to which no server is publishing. A dispatcher holds a device's lock until a publish has ended.
with asked as materialized (
    select device from unnest(:devices::bigint[]) device
), locked as materialized (
    select device,
        pg_try_advisory_lock(:commands::integer, hashint8(device)) as commands,
        pg_try_advisory_lock(:configs::integer, hashint8(device)) as configs
    from asked
), unlocked as materialized (
    select device, commands and configs as is_idle,
        case when commands then pg_advisory_unlock(:commands::integer, hashint8(device)) end,
        case when configs then pg_advisory_unlock(:configs::integer, hashint8(device)) end
    from locked
)
select device from unlocked where is_idle
