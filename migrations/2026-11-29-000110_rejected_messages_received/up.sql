create index rejected_messages_received on rejected_messages (home_id, received_at);
comment on index rejected_messages_received is 'Whether a message is stored already, after an insert whose answer was lost.';
