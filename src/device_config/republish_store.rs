//! SQL of configurations that the broker lost, or may have lost, with its session: they are published again.

use chrono::{DateTime, Utc};
use diesel::sql_types::{BigInt, Nullable, Timestamptz};
use diesel::{ExpressionMethods, QueryDsl, QueryResult};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use crate::db::schema::retained_clearings as clearings;
use crate::db::statement;
use crate::ids::DeviceId;
use crate::outbox::Recovery;

/// Configurations that one step marks.
const MAX_PER_STEP: usize = 1_000;

statement! {
    struct Republish("sql/republish.sql") -> BigInt {
        after: BigInt = DeviceId,
        since: Nullable<Timestamptz> = Option<DateTime<Utc>>,
        limit: BigInt = i64,
    }
}

/// Configurations to publish again, step by step in the order of devices.
pub(super) struct Republishing<Id> {
    /// What is recovered from. Another loss or connection starts again with the first device.
    pub(super) cause: Id,
    /// Only what the broker confirmed after this time is published again.
    since: Option<DateTime<Utc>>,
    last: DeviceId,
}

impl<Id> Republishing<Id> {
    pub(super) fn new(cause: Id, since: Option<DateTime<Utc>>) -> Self {
        Self { cause, since, last: DeviceId::from_database(0) }
    }

    pub(super) async fn step(&mut self, conn: &mut AsyncPgConnection) -> QueryResult<Recovery> {
        let limit = i64::try_from(MAX_PER_STEP).expect("a small number");
        let marked: Vec<DeviceId> = Republish { after: self.last, since: self.since, limit }.load(conn).await?;
        self.last = marked.iter().copied().max().unwrap_or(self.last);
        Ok(Recovery::after(marked.len(), MAX_PER_STEP))
    }
}

/// The broker may have restarted from an older snapshot: clearings that it confirmed after `since` are sent again. It
/// has those that it confirmed before, and their rows are deleted.
pub(super) async fn repeat_recent_clearings(conn: &mut AsyncPgConnection, since: DateTime<Utc>) -> QueryResult<()> {
    diesel::delete(clearings::table.filter(clearings::confirmed_at.le(since))).execute(conn).await?;
    diesel::update(clearings::table.filter(clearings::confirmed_at.gt(since)))
        .set(clearings::confirmed_at.eq(None::<DateTime<Utc>>))
        .execute(conn)
        .await
        .map(drop)
}
