//! SQL of readings that are parked because their month does not take them. They are moved while the transaction holds the
//! ingest lock, as every insert of readings.

use chrono::{DateTime, Utc};
use diesel::QueryResult;
use diesel::sql_types::{Array, BigInt, Bool, Timestamptz};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use super::Reading;
use super::partition_store::Month;
use super::read_store::{Row, SqlRow, reading};
use crate::db::statement;
use crate::ids::{HomeId, TelemetryId};

/// A place in the order in which parked readings are moved: by their times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ParkedPosition {
    pub at: DateTime<Utc>,
    pub id: i64,
}

impl ParkedPosition {
    /// Before all readings of a month.
    pub fn start_of(month: Month) -> Self {
        Self { at: month.starts_at(), id: 0 }
    }
}

statement! {
    struct CountParked("sql/count_parked.sql") -> BigInt { limit: BigInt = i64 }
}

/// The number of parked readings, counted up to a limit.
pub async fn count_parked(conn: &mut AsyncPgConnection, limit: i64) -> QueryResult<i64> {
    CountParked { limit }.get_result(conn).await
}

statement! {
    struct FindParkedMonths("sql/find_parked_months.sql") -> Timestamptz {}
}

/// The months that have parked readings, in their order.
pub async fn find_parked_months(conn: &mut AsyncPgConnection) -> QueryResult<Vec<Month>> {
    let times: Vec<DateTime<Utc>> = FindParkedMonths {}.load(conn).await?;
    Ok(times.into_iter().map(Month::of).collect())
}

statement! {
    struct FindParked("sql/find_parked.sql") -> (Timestamptz, BigInt) {
        after_at: Timestamptz = DateTime<Utc>,
        after_id: BigInt = i64,
        before: Timestamptz = DateTime<Utc>,
        limit: BigInt = i64,
    }
}

/// The places of the next parked readings of a month.
pub async fn find_parked(
    conn: &mut AsyncPgConnection,
    month: Month,
    after: ParkedPosition,
    limit: i64,
) -> QueryResult<Vec<ParkedPosition>> {
    let find = FindParked { after_at: after.at, after_id: after.id, before: month.next().starts_at(), limit };
    let rows: Vec<(DateTime<Utc>, i64)> = find.load(conn).await?;
    Ok(rows.into_iter().map(|(at, id)| ParkedPosition { at, id }).collect())
}

statement! {
    struct MoveParked("sql/move_parked.sql") -> SqlRow {
        ids: Array<BigInt> = Vec<i64>,
    }
}

/// Moves parked readings. Returns those that are new, with their cursors.
pub async fn move_parked(conn: &AsyncPgConnection, parked: &[ParkedPosition]) -> QueryResult<Vec<Reading>> {
    let ids = parked.iter().map(|position| position.id).collect();
    let rows: Vec<Row> = MoveParked { ids }.load(&mut &*conn).await?;
    Ok(rows.into_iter().map(reading).collect())
}

statement! {
    struct IsCommitted("sql/is_committed.sql") -> Bool {
        home: BigInt = HomeId,
        id: BigInt = TelemetryId,
    }
}

/// Whether the transaction that stored a reading was committed.
pub async fn is_committed(conn: &mut AsyncPgConnection, reading: &Reading) -> QueryResult<bool> {
    IsCommitted { home: reading.home, id: reading.id }.get_result(conn).await
}
