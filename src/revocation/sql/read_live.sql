-- Every revocation that a token or connection of today can still be affected by, for a server that starts.
-- A session's access tokens live 15 minutes. Tokens without a session live up to a year.
select r.id, r.user_id, r.session_id, r.home_id, r.issued_before
from revocations r
where r.at > now() - interval '30 minutes'
   or (r.issued_before is not null and r.at > now() - interval '400 days')
order by r.id
