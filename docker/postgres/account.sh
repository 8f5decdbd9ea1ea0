#!/usr/bin/env bash
# Creates the server's account at the database's first start: an ordinary account that may create tables and owns
# only what it creates. The database belongs to the superuser.
set -euo pipefail
[ -s "$DATABASE_PASSWORD_FILE" ] || { echo "$DATABASE_PASSWORD_FILE: no password in it" >&2; exit 1; }
psql -X -q -v ON_ERROR_STOP=1 -v account="$DATABASE_ACCOUNT" -U "$POSTGRES_USER" -d "$POSTGRES_DB" <<'SQL'
\set password `cat "$DATABASE_PASSWORD_FILE"`
begin;
set local log_min_error_statement = panic; -- keeps the password out of the log if the statement fails
create role :"account" login password :'password';
-- The server recognizes some errors by their English text; only a superuser may set this.
alter role :"account" set lc_messages = 'C';
grant usage, create on schema public to :"account";
commit;
SQL
