delete from committed_packets where client_id = :client_id::text and id <= :last::bigint
