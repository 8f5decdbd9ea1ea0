alter table committed_packets
    alter column packet_ids set storage extended,
    alter column digests set storage extended;
