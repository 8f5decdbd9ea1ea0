drop table mqtt_deliveries;
drop table rejected_messages;
