-- Deleted devices whose cleanup is due. Homes take turns, beginning after the home of the last one. The account of the
-- device must be removed before, so that it can't come back. The topics are left alone the second time if another device has them by now.
select due.id, due.home_id, due.device_id, due.client_id, due.home_key, due.device_key, due.home_segment, due.device_segment,
    due.cleared_at is null
        or not exists (
            select
            from devices d
            join homes h on h.id = d.home_id
            where h.key = due.home_key and d.key = due.device_key
        ) as clears_topics
from (
    select b.*, row_number() over (partition by b.home_id order by b.id) as turn
    from broker_cleanups b
    where (b.cleared_at is null or b.cleared_at <= :repeat_before)
        and not (
            :has_accounts
            and exists (
                select
                from mqtt_clients a
                where (a.credential_id is null or a.remove_first)
                    and a.username in (
                        b.home_key || '/' || b.device_key,
                        b.home_key || '/' || b.device_key || '~1'
                    )
            )
        )
) due
order by due.turn, due.home_id <= :last_home, due.home_id
limit :limit
