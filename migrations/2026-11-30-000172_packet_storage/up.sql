-- Digests can't be compressed, and trying costs more than the packet ids would save.
alter table committed_packets
    alter column packet_ids set storage external,
    alter column digests set storage external;
