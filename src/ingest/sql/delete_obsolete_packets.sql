-- The range has a first row, so that PostgreSQL does not look at all rows that were deleted before and are not vacuumed yet.
delete from committed_packets where client_id = :client_id::text and id between :first::bigint and :last::bigint
