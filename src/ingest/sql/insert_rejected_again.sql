-- As insert_rejected.sql, after an attempt whose answer was lost: it may have committed the messages.
insert into rejected_messages (home_id, topic, reason, payload_preview, received_at)
select n.*
from unnest(
    :home_ids::bigint[],
    :topics::text[],
    :reasons::text[],
    :previews::text[],
    :received_at::timestamptz[]
) n (home_id, topic, reason, preview, received_at)
where exists (select from homes h where h.id = n.home_id)
    and not exists (
        select from rejected_messages r
        where r.home_id = n.home_id and r.received_at = n.received_at and r.topic = n.topic
    )
