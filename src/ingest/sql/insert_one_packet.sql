-- As insert_packets.sql for a batch of one message. Returns no row if its device was deleted meanwhile.
insert into committed_packets (client_id, packet_ids, digests)
select :client_id::text, array[:packet_id::integer], array[:digest::bigint]
where :device_id::bigint is null or exists (select from devices d where d.id = :device_id::bigint)
returning id
