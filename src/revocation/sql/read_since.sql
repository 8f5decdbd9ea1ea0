-- Revocations recorded after a moment.
select r.id, r.user_id, r.session_id, r.home_id, r.issued_before
from revocations r
where r.at > :since::timestamptz
order by r.id
