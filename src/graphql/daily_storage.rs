//! What a device has stored today.

use async_graphql::SimpleObject;

/// Bytes of a KiB.
const KIB: u64 = 1_024;

/// The readings that a device has stored today, by the size of their messages. The day begins at midnight UTC.
#[derive(SimpleObject)]
#[graphql(serial)]
pub(super) struct DailyStorage {
    /// KiB of readings that the server accepted today, rounded up. It lags behind by some seconds.
    used_kib: i32,
    /// KiB that the device may store in a day (`DEVICE_DAILY_MIB`). Readings above it are dropped until midnight UTC
    /// and counted in `Device.shedMessages`. Null if there is no limit.
    limit_kib: Option<i32>,
}

impl DailyStorage {
    pub(super) fn new(used_bytes: i64, limit_bytes: Option<u64>) -> Self {
        let int = |kib: u64| i32::try_from(kib).unwrap_or(i32::MAX);
        let used = u64::try_from(used_bytes).unwrap_or_default();
        Self { used_kib: int(used.div_ceil(KIB)), limit_kib: limit_bytes.map(|bytes| int(bytes / KIB)) }
    }
}
