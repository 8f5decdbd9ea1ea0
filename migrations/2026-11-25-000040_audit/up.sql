create table audit_log (
    id         bigint      generated always as identity primary key,
    at         timestamptz not null default clock_timestamp(),
    home_id    bigint,
    actor_kind text        not null check (actor_kind in ('SESSION', 'OPERATOR', 'INTEGRATION', 'OUTSIDE')),
    actor_id   bigint      not null,
    actor      text        not null,
    address    text,
    action     text        not null check (action ~ '^[a-z]+\.[a-z_]+$'),
    target     text        not null check (length(target) between 1 and 400),
    details    json        not null check (octet_length(details::text) <= 2048)
);
create index audit_log_home on audit_log (home_id, id);
comment on table audit_log is
    'Who changed what, a row a change, committed with it. Append-only: triggers refuse UPDATE, TRUNCATE, and DELETE of what is young and has a home.';
comment on column audit_log.at is 'By the database''s clock.';
comment on column audit_log.home_id is
    'No reference: a home goes first, and its rows piece by piece after it. Null for what outlives its home: its deletion.';
comment on column audit_log.actor_kind is 'By what they acted: a session, an operator''s token, an integration''s token, a token of an outside issuer.';
comment on column audit_log.actor_id is 'Who. No reference: what somebody did stays when the account is gone.';
comment on column audit_log.actor is 'What they were called when they did it: the e-mail, or an integration''s name.';
comment on column audit_log.address is 'The client''s network address, where it was known.';
comment on column audit_log.action is 'What was done, as thing.deed.';
comment on column audit_log.target is 'To what, for people.';
comment on column audit_log.details is 'Ids, and what has changed from what to what. Never a secret.';
comment on index audit_log_home is 'A home''s pages, and the homes there are rows of.';

-- The one place that says how long.
create function audit_kept_for() returns interval language sql immutable as $$ select interval '400 days' $$;
comment on function audit_kept_for() is 'How long a row of the audit log is kept, and can''t be deleted.';

create function refuse_audit_change() returns trigger language plpgsql as $$
begin
    raise exception 'audit_log is append-only: % is refused', tg_op using errcode = 'insufficient_privilege';
end $$;
comment on function refuse_audit_change() is 'Refuses the statement, whatever it would change.';
create trigger audit_log_update before update on audit_log for each statement execute function refuse_audit_change();
create trigger audit_log_truncate before truncate on audit_log for each statement execute function refuse_audit_change();

-- Once a statement and not once a row: a home has many. All names are bound to one schema, so that nothing of the
-- caller's can stand in for the homes or the time.
create function refuse_audit_deletion() returns trigger language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
    is_refused boolean;
begin
    execute format(
        'select exists (select from gone g where g.at > now() - %1$I.audit_kept_for()
            and (g.home_id is null or exists (select from %1$I.homes h where h.id = g.home_id)))',
        tg_table_schema) into is_refused;
    if is_refused then
        raise exception 'audit_log is append-only: its rows go after their home, or when they are old enough'
            using errcode = 'insufficient_privilege', hint = 'audit_kept_for() says how old';
    end if;
    return null;
end $$;
comment on function refuse_audit_deletion() is 'Refuses to delete rows that are young and have a home.';
create trigger audit_log_delete after delete on audit_log referencing old table as gone
    for each statement execute function refuse_audit_deletion();
