-- How many rows hold the term: 1 if it is the last that began, the session is still the one of its prefix, and no plain
-- subscription has replaced it. The next term begins after the end of this transaction.
select count(*)
from (
    select
    from ingest_sessions
    where client_id = :client_id::text
        and term = :term::bigint
        and plain_prefix is not distinct from :plain_prefix::text
        and not is_stale
    for share
) current
