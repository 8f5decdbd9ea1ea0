-- Accounts whose change the broker has not confirmed: removals first, which disconnect devices, then passwords. Within
-- both, homes take turns, beginning after the home of the last one. The account of a device waits until the broker has
-- deleted what it kept for a deleted device with the same keys.
select p.username, p.credential_id, p.sealed_password, p.mqtt_client_id, p.is_removal
from (
    select a.username, a.credential_id, a.sealed_password, d.mqtt_client_id, k.home_key, k.is_removal,
        row_number() over (partition by k.home_key, k.is_removal order by a.changed_at, a.username) as turn
    from mqtt_clients a
        cross join lateral (
            -- The user name is that of MqttUser. Of a deleted device nothing else is left.
            select split_part(a.username, '/', 1) as home_key, a.credential_id is null or a.remove_first as is_removal
        ) k
        left join device_credentials c on c.id = a.credential_id
        left join devices d on d.id = c.device_id
    where (a.credential_id is null or a.sealed_password is not null)
        and (
            k.is_removal
            or not exists (
                select
                from broker_cleanups b
                where b.home_key = k.home_key and b.device_key = d.key and b.cleared_at is null
            )
        )
) p
order by not p.is_removal,
    p.turn,
    p.home_key <= case when p.is_removal then :last_removal else :last_password end,
    p.home_key
limit :limit
