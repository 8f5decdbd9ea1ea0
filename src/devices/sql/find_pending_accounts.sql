-- Accounts whose change the broker has not confirmed, removals first. The account of a device waits until the broker has
-- deleted what it kept for a deleted device with the same keys.
select a.username, a.credential_id, a.sealed_password, d.mqtt_client_id, a.remove_first
from mqtt_clients a
    left join device_credentials c on c.id = a.credential_id
    left join devices d on d.id = c.device_id
    left join homes h on h.id = d.home_id
where a.credential_id is null
    or a.sealed_password is not null
        and (
            a.remove_first
            or not exists (
                select
                from broker_cleanups b
                where b.home_key = h.key and b.device_key = d.key and b.cleared_at is null
            )
        )
order by a.credential_id is not null and not a.remove_first, a.changed_at
limit :limit
