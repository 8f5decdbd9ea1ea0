-- Rows that were deleted and are not vacuumed yet, before those that are left.
alter table committed_packets set (autovacuum_enabled = off);
insert into committed_packets (client_id, packet_ids, digests) select 'server', '{1}', '{1}' from generate_series(1, 20000);
delete from committed_packets where id <= (select max(id) - 100 from committed_packets);
