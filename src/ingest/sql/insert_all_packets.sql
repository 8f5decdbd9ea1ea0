-- As insert_packets.sql, for a batch whose devices all exist.
insert into committed_packets (client_id, packet_ids, digests)
values (:client_id::text, :packet_ids::integer[], :digests::bigint[])
returning id
