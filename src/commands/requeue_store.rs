//! SQL that makes sent commands pending again. The rows alone decide which: every server finds the same ones.

use chrono::{DateTime, Utc};
use diesel::QueryResult;
use diesel::sql_types::{Array, BigInt, Bool, Timestamptz, Untyped};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use super::command::Command;
use super::row_store::into_commands;
use crate::db::statement;
use crate::ids::DeviceId;

statement! {
    struct FindUndelivered("sql/find_undelivered.sql") -> (BigInt, Bool) {
        after: BigInt = DeviceId,
        now: Timestamptz = DateTime<Utc>,
        limit: BigInt = i64,
    }
}

statement! {
    struct RequeueUndelivered<'a>("sql/requeue_undelivered.sql") -> Untyped {
        now: Timestamptz = DateTime<Utc>,
        devices: Array<BigInt> = &'a [DeviceId],
    }
}

statement! {
    struct ForgetUndelivered("sql/forget_undelivered.sql") -> Untyped {
        now: Timestamptz = DateTime<Utc>,
        limit: BigInt = i64,
    }
}

statement! {
    struct RequeueLost("sql/requeue_lost.sql") -> Untyped {
        now: Timestamptz = DateTime<Utc>,
        before: Timestamptz = DateTime<Utc>,
    }
}

/// The next devices after `after` with a command that the broker dropped because nobody was subscribed, and whether a
/// device has sent something since.
pub(super) async fn find_undelivered(
    conn: &mut AsyncPgConnection,
    after: DeviceId,
    now: DateTime<Utc>,
    limit: i64,
) -> QueryResult<Vec<(DeviceId, bool)>> {
    FindUndelivered { after, now, limit }.load(conn).await
}

/// Commands of these devices that the broker dropped because nobody was subscribed.
pub(super) async fn requeue_undelivered(
    conn: &mut AsyncPgConnection,
    now: DateTime<Utc>,
    devices: &[DeviceId],
) -> QueryResult<Vec<Command>> {
    if devices.is_empty() {
        return Ok(Vec::new());
    }
    Ok(into_commands(RequeueUndelivered { now, devices }.load(conn).await?))
}

/// Undelivered commands that have timed out and expired are no longer looked for.
pub(super) async fn forget_undelivered(
    conn: &mut AsyncPgConnection,
    now: DateTime<Utc>,
    limit: i64,
) -> QueryResult<()> {
    ForgetUndelivered { now, limit }.execute(conn).await.map(drop)
}

/// Unanswered commands that the broker accepted up to `before` and lost with our session.
pub(super) async fn requeue_lost(
    conn: &mut AsyncPgConnection,
    now: DateTime<Utc>,
    before: DateTime<Utc>,
) -> QueryResult<Vec<Command>> {
    Ok(into_commands(RequeueLost { now, before }.load(conn).await?))
}
