#!/usr/bin/env bash
# Makes the server's account, once, at the database's first start: an ordinary one that may make tables and owns
# nothing but what it makes. The database is its superuser's.
set -euo pipefail
[ -s "$DATABASE_PASSWORD_FILE" ] || { echo "$DATABASE_PASSWORD_FILE: no password in it" >&2; exit 1; }
psql -X -q -v ON_ERROR_STOP=1 -v account="$DATABASE_ACCOUNT" -U "$POSTGRES_USER" -d "$POSTGRES_DB" <<'SQL'
\set password `cat "$DATABASE_PASSWORD_FILE"`
begin;
set local log_min_error_statement = panic; -- a statement with a password is in no log, should it fail
create role :"account" login password :'password';
grant usage, create on schema public to :"account";
commit;
SQL
