alter table mqtt_deliveries rename to committed_packets;
alter index mqtt_deliveries_pkey rename to committed_packets_pkey;
alter sequence mqtt_deliveries_id_seq rename to committed_packets_id_seq;
comment on table committed_packets is 'MQTT packet ids and digests of the messages committed in the present broker session, one row per batch. A redelivery (DUP) that is listed here is stored already. Bounded by the 65,535 packet ids of the protocol.';
