//! SQL of expected effects.

use chrono::{DateTime, Utc};
use diesel::QueryResult;
use diesel::sql_types::{BigInt, Timestamptz, Untyped};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use super::command::Command;
use super::row_store::into_commands;
use crate::db::statement;

statement! {
    struct FindExpecting("sql/find_expecting.sql") -> Untyped {
        finished_since: Timestamptz = DateTime<Utc>,
        limit: BigInt = i64,
    }
}

/// The newest commands whose effect may still be observed; those that timed out up to `finished_since`.
pub(super) async fn find_expecting(
    conn: &mut AsyncPgConnection,
    finished_since: DateTime<Utc>,
    limit: i64,
) -> QueryResult<Vec<Command>> {
    Ok(into_commands(FindExpecting { finished_since, limit }.load(conn).await?))
}
