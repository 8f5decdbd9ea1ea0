alter table commands rename column handed_at to dispatched_at;
alter table commands rename column in_doubt to may_have_been_delivered;
alter table commands rename column unheard to no_subscribers;
alter index commands_unheard rename to commands_no_subscribers;

comment on column commands.dispatched_at is 'First given to the MQTT client: from then on the device may have it, so it is neither cancelled nor superseded.';
comment on column commands.may_have_been_delivered is 'An attempt before the last one may have reached the device: its outcome is unknown.';
comment on column commands.no_subscribers is 'The broker dropped it because nobody was subscribed (MQTT 5, no matching subscribers). It is sent again once the device shows activity.';
comment on index commands_no_subscribers is 'Commands to send again once their device shows activity. Read every few seconds, so expired ones are skipped by expires_at.';
