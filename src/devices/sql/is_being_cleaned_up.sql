-- Whether a device with these names in topics was deleted, and the broker may keep something for it. Once the broker has
-- deleted it, the topics belong to the next device with the same keys.
select exists (
    select
    from broker_cleanups b
    where (b.home_key = :home and b.device_key = :device or b.home_segment = :home and b.device_segment = :device)
        and (
            b.cleared_at is null
            or not exists (
                select
                from devices d
                join homes h on h.id = d.home_id
                where h.key = b.home_key and d.key = b.device_key
            )
        )
) as is_being_cleaned_up
