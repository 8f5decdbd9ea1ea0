//! SQL of the queue of devices with a command to send.

use chrono::{DateTime, Utc};
use diesel::QueryResult;
use diesel::sql_types::{Array, BigInt, Bool, Timestamptz};
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
    struct UpdateQueue<'a>("sql/update_queue.sql") -> BigInt {
        now: Timestamptz = DateTime<Utc>,
        devices: Array<BigInt> = &'a [DeviceId],
    }
}

/// To be called for devices that got a command or had none to send: puts each at the end of its home's queue, holds it
/// or removes it.
pub(super) async fn update(conn: &mut AsyncPgConnection, now: DateTime<Utc>, devices: &[DeviceId]) -> QueryResult<()> {
    if devices.is_empty() {
        return Ok(());
    }
    UpdateQueue { now, devices }.load::<DeviceId>(conn).await.map(drop)
}
