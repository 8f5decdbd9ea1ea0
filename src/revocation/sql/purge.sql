-- Deletes revocations that no token can outlive. Each stays for a day at least, so that a server which lost
-- its database connection still finds what it missed.
delete from revocations r
where r.at < now() - interval '1 day'
  and (r.issued_before is null or r.at < now() - interval '400 days')
