//! SQL of deadlines: expiry of pending commands, timeouts of sent and acknowledged ones, the next attempt for a device.

use chrono::{DateTime, Utc};
use diesel::QueryResult;
use diesel::sql_types::{BigInt, Nullable, Timestamptz, Untyped};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use super::command::Command;
use super::row_store::into_commands;
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

statement! {
    struct NextDeadline("sql/next_deadline.sql") -> Nullable<Timestamptz> {}
}

/// When a command expires or times out, or a device is tried again.
pub(super) async fn next_deadline(conn: &mut AsyncPgConnection) -> QueryResult<Option<DateTime<Utc>>> {
    NextDeadline {}.get_result(conn).await
}
