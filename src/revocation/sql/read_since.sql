-- Revocations recorded after a moment. With one bound PostgreSQL would expect many rows and read the whole table.
select r.id, r.user_id, r.session_id, r.home_id, r.issued_before
from revocations r
where r.at > :since::timestamptz
    and r.at <= 'infinity'
order by r.id
