//! SQL of deadlines: expiry of pending commands, timeouts of sent and acknowledged ones.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Timestamptz, Untyped};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use super::command::Command;
use super::row_store::into_commands;
use crate::db::schema::commands;
use crate::db::statement;

statement! {
    struct ExpireOverdue("sql/expire_overdue.sql") -> Untyped {
        now: Timestamptz = DateTime<Utc>,
        limit: BigInt = i64,
    }
}

/// Ends at most `limit` commands and returns them.
pub(super) async fn expire_overdue(
    conn: &mut AsyncPgConnection,
    now: DateTime<Utc>,
    limit: i64,
) -> QueryResult<Vec<Command>> {
    Ok(into_commands(ExpireOverdue { now, limit }.load(conn).await?))
}

pub(super) async fn next_deadline(conn: &mut AsyncPgConnection) -> QueryResult<Option<DateTime<Utc>>> {
    let open = commands::table.filter(commands::deadline.is_not_null()).order(commands::deadline);
    open.select(commands::deadline.assume_not_null()).first(conn).await.optional()
}
