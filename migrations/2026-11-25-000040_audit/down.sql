drop table audit_log;
drop function refuse_audit_deletion();
drop function refuse_audit_change();
drop function audit_kept_for();
