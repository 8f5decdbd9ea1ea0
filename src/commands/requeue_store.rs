//! SQL that makes sent commands pending again. The rows alone decide which: every server finds the same ones.

use chrono::{DateTime, Utc};
use diesel::QueryResult;
use diesel::sql_types::{Timestamptz, Untyped};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use super::command::Command;
use super::row_store::into_commands;
use crate::db::statement;

statement! {
    struct RequeueUndelivered("sql/requeue_undelivered.sql") -> Untyped {
        now: Timestamptz = DateTime<Utc>,
    }
}

statement! {
    struct RequeueLost("sql/requeue_lost.sql") -> Untyped {
        now: Timestamptz = DateTime<Utc>,
        before: Timestamptz = DateTime<Utc>,
    }
}

/// Commands that the broker dropped because nobody was subscribed.
pub(super) async fn requeue_undelivered(conn: &mut AsyncPgConnection, now: DateTime<Utc>) -> QueryResult<Vec<Command>> {
    Ok(into_commands(RequeueUndelivered { now }.load(conn).await?))
}

/// Unanswered commands that the broker accepted up to `before` and lost with our session.
pub(super) async fn requeue_lost(
    conn: &mut AsyncPgConnection,
    now: DateTime<Utc>,
    before: DateTime<Utc>,
) -> QueryResult<Vec<Command>> {
    Ok(into_commands(RequeueLost { now, before }.load(conn).await?))
}
