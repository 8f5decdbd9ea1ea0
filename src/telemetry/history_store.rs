//! SQL that reads pages of the past of devices.

use std::cmp::Reverse;

use chrono::{DateTime, Utc};
use diesel::QueryResult;
use diesel::sql_types::{Array, BigInt, Bool, Timestamptz};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use super::SharedReading;
use super::history_page::{HistoryPage, first_instant, last_instant};
use super::read_store::{Row, SqlRow, reading};
use crate::db::{MemoryBudget, collect_bounded, statement};
use crate::error::Error;
use crate::ids::DeviceId;

/// Readings with the time of a page's last one that are read beyond the page. Of more than that, a statement of its own
/// finds those of the page.
const MAX_TIES: i64 = 8;

statement! {
    struct History<'a>("sql/history.sql") -> SqlRow {
        devices: Array<BigInt> = &'a [DeviceId],
        from_at: Timestamptz = DateTime<Utc>,
        to_at: Timestamptz = DateTime<Utc>,
        after_at: Timestamptz = DateTime<Utc>,
        after_id: BigInt = i64,
        limit: BigInt = i64,
        max_rows: BigInt = i64,
        health: Bool = bool,
    }
}

statement! {
    struct HistoryOfTies<'a>("sql/history_of_ties.sql") -> SqlRow {
        devices: Array<BigInt> = &'a [DeviceId],
        from_at: Timestamptz = DateTime<Utc>,
        to_at: Timestamptz = DateTime<Utc>,
        after_at: Timestamptz = DateTime<Utc>,
        after_id: BigInt = i64,
        limit: BigInt = i64,
        health: Bool = bool,
    }
}

/// The bounds of a page, which are always given.
pub(super) struct Bounds {
    pub(super) from_at: DateTime<Utc>,
    pub(super) to_at: DateTime<Utc>,
    pub(super) after_at: DateTime<Utc>,
    pub(super) after_id: i64,
    pub(super) limit: i64,
    /// Readings of a device that are read at most.
    pub(super) max_rows: i64,
}

impl Bounds {
    pub(super) fn of(page: &HistoryPage) -> Self {
        let (first, last) = (first_instant(), last_instant());
        Self {
            from_at: page.from.map_or(first, |at| at.clamp(first, last)),
            to_at: page.to.map_or(last, |at| at.clamp(first, last)),
            after_at: page.after.map_or(last, |after| after.recorded_at),
            after_id: page.after.map_or(i64::MAX, |after| after.id.get()),
            limit: page.limit,
            max_rows: page.limit.saturating_add(MAX_TIES),
        }
    }
}

pub(super) async fn history(
    conn: &mut AsyncPgConnection,
    devices: &[DeviceId],
    page: &HistoryPage,
    budget: &MemoryBudget,
) -> Result<Vec<SharedReading>, Error> {
    let Bounds { from_at, to_at, after_at, after_id, limit, max_rows } = Bounds::of(page);
    let health = page.health;
    let query = History { devices, from_at, to_at, after_at, after_id, limit, max_rows, health };
    let readings = collect_bounded(query.load_stream::<Row>(conn).await?, budget, shared).await?;
    complete(conn, readings, page, budget).await
}

/// The page of each device, of the readings that were read with [`Bounds`].
pub(super) async fn complete(
    conn: &mut AsyncPgConnection,
    mut readings: Vec<SharedReading>,
    page: &HistoryPage,
    budget: &MemoryBudget,
) -> Result<Vec<SharedReading>, Error> {
    let Bounds { from_at, to_at, after_at, after_id, limit, max_rows } = Bounds::of(page);
    let health = page.health;
    sort(&mut readings);
    let devices = &devices_with(&readings, max_rows)[..];
    if !devices.is_empty() {
        readings.retain(|reading| !devices.contains(&reading.device));
        let query = HistoryOfTies { devices, from_at, to_at, after_at, after_id, limit, health };
        readings.extend(collect_bounded(query.load_stream::<Row>(conn).await?, budget, shared).await?);
        sort(&mut readings);
    }
    keep_first(&mut readings, limit);
    Ok(readings)
}

fn shared(row: Row) -> QueryResult<SharedReading> {
    Ok(SharedReading::new(reading(row)))
}

/// By device, the newest first. They come nearly so: the database need not sort them.
fn sort(readings: &mut [SharedReading]) {
    readings.sort_by_key(|reading| (reading.device, Reverse((reading.recorded_at, reading.id))));
}

/// The devices of which so many readings were read.
fn devices_with(readings: &[SharedReading], n: i64) -> Vec<DeviceId> {
    let of_devices = readings.chunk_by(|a, b| a.device == b.device);
    of_devices.filter(|of_device| count(of_device) >= n).map(|of_device| of_device[0].device).collect()
}

/// Keeps so many readings of each device.
fn keep_first(readings: &mut Vec<SharedReading>, limit: i64) {
    let (mut device, mut n) = (None, 0);
    readings.retain(|reading| {
        n = if device == Some(reading.device) { n + 1 } else { 1 };
        device = Some(reading.device);
        n <= limit
    });
}

fn count(readings: &[SharedReading]) -> i64 {
    i64::try_from(readings.len()).expect("a page")
}
