alter index commands_no_subscribers rename to commands_unheard;
alter table commands rename column no_subscribers to unheard;
alter table commands rename column may_have_been_delivered to in_doubt;
alter table commands rename column dispatched_at to handed_at;
