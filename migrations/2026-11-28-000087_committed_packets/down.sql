comment on table committed_packets is 'Packet ids and digests of what was committed in the present broker session: a redelivery (DUP) that stands here is stored already. Bounded by the 65,535 packet ids of the protocol.';
alter sequence committed_packets_id_seq rename to mqtt_deliveries_id_seq;
alter index committed_packets_pkey rename to mqtt_deliveries_pkey;
alter table committed_packets rename to mqtt_deliveries;
