drop table broker_losses;
drop table broker_sessions;
