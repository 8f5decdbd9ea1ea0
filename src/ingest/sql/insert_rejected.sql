-- A message whose home was deleted meanwhile is left out.
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
