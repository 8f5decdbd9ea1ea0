-- How many rows hold the term: 1 if it is the last that began, and the session is still the one of its prefix. The next
-- term begins after the end of this transaction.
select count(*)
from (
    select
    from ingest_sessions
    where client_id = :client_id::text
        and term = :term::bigint
        and plain_prefix is not distinct from :plain_prefix::text
    for share
) current
