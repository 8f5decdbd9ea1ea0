//! SQL of the queue of devices with a command to send.

use chrono::{DateTime, Utc};
use diesel::QueryResult;
use diesel::sql_types::{Array, BigInt, Bool, Timestamptz, Untyped};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use crate::db::statement;
use crate::ids::{DeviceId, HomeId};

statement! {
    /// The next devices of the queue, without those in `busy`. Homes take turns, the first is the next one after
    /// `after`.
    pub(super) struct FindDue<'a>("sql/find_due.sql") -> (BigInt, BigInt, Bool) {
        now: Timestamptz = DateTime<Utc>,
        after: BigInt = HomeId,
        busy: Array<BigInt> = &'a [DeviceId],
        limit: BigInt = i64,
    }
}

/// A device of the queue.
pub(super) struct Due {
    pub(super) device: DeviceId,
    pub(super) home: HomeId,
    /// Whether it has a command to send and has not announced that it is offline.
    pub(super) is_ready: bool,
}

impl FindDue<'_> {
    pub(super) async fn execute(self, conn: &mut AsyncPgConnection) -> QueryResult<Vec<Due>> {
        let rows: Vec<(DeviceId, HomeId, bool)> = self.load(conn).await?;
        Ok(rows.into_iter().map(|(device, home, is_ready)| Due { device, home, is_ready }).collect())
    }
}

statement! {
    struct UpdateQueue<'a>("sql/update_queue.sql") -> (BigInt, Bool) {
        now: Timestamptz = DateTime<Utc>,
        devices: Array<BigInt> = &'a [DeviceId],
    }
}

/// To be called for devices that got a command or had none to send: puts each at the end of its home's queue, holds it
/// or removes it. Returns the devices to whose topic nobody was subscribed.
pub(super) async fn update(
    conn: &mut AsyncPgConnection,
    now: DateTime<Utc>,
    devices: &[DeviceId],
) -> QueryResult<Vec<DeviceId>> {
    if devices.is_empty() {
        return Ok(Vec::new());
    }
    let updated: Vec<(DeviceId, bool)> = UpdateQueue { now, devices }.load(conn).await?;
    Ok(updated.into_iter().filter(|(_, is_retried)| *is_retried).map(|(device, _)| device).collect())
}

statement! {
    struct ReleaseRetries<'a>("sql/release_retries.sql") -> Untyped {
        now: Timestamptz = DateTime<Utc>,
        active: Array<BigInt> = &'a [DeviceId],
        limit: BigInt = i64,
    }
}

/// Lets up to `limit` devices have their next attempt that is due, and those in `active`, which sent something since the
/// last one.
pub(super) async fn release_retries(
    conn: &mut AsyncPgConnection,
    now: DateTime<Utc>,
    active: &[DeviceId],
    limit: i64,
) -> QueryResult<()> {
    ReleaseRetries { now, active, limit }.execute(conn).await.map(drop)
}
