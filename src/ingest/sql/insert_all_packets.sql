-- As insert_packets.sql, for a batch of which every device exists.
insert into committed_packets (client_id, packet_ids, digests)
values (:client_id::text, :packet_ids::integer[], :digests::bigint[])
returning id
