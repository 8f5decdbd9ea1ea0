drop index retained_clearings_unconfirmed;
drop index device_states_topic;
