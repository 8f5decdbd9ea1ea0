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
        max_late: BigInt = i64,
        per_home: BigInt = i64,
        limit: BigInt = i64,
    }
}

/// Commands that timed out whose effects one read considers, the newest first, of all homes.
const MAX_LATE: i64 = 100_000;

/// The newest commands of each home whose effect may still be observed, up to `per_home`; those that timed out up to
/// `finished_since`. Where there are more than `limit`, homes with few come first.
pub(super) async fn find_expecting(
    conn: &mut AsyncPgConnection,
    finished_since: DateTime<Utc>,
    per_home: i64,
    limit: i64,
) -> QueryResult<Vec<Command>> {
    Ok(into_commands(FindExpecting { finished_since, max_late: MAX_LATE, per_home, limit }.load(conn).await?))
}
