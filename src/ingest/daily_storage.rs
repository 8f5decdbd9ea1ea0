//! How much each device may store in a day (UTC): the payloads of its readings, which nothing deletes. Beyond, its
//! readings are dropped, counted on the device and reported to the admins of its home, like those above its rate limit.
//!
//! The sums are kept in memory and written with other changes of a device's state, so no message costs a statement. They
//! are exact while the server runs. A crash forgets what was accepted since the last write: at most [`UNWRITTEN_BYTES`]
//! and what was not written for a second more. Each server counts for itself.

use chrono::{DateTime, NaiveDate, Utc};

use super::device_limits::LastReport;
use crate::devices::{ResolvedDevice, StoredBytes};
use crate::ids::{DeviceId, IdMap};

/// Bytes of a device after which its sum is written within a second, however lately its row was.
const UNWRITTEN_BYTES: u64 = 4 << 20;

/// The sums of the present day, of every device that has sent a reading on it.
pub(super) struct DailyStorage {
    /// Bytes a day; `None` for no limit.
    limit: Option<u64>,
    day: NaiveDate,
    devices: IdMap<DeviceId, Sum>,
}

struct Sum {
    bytes: u64,
    /// Of these, what is written or about to be.
    written: u64,
    last_report: LastReport,
}

impl DailyStorage {
    pub(super) fn new(limit: Option<u64>) -> Self {
        Self { limit, day: NaiveDate::MIN, devices: IdMap::default() }
    }

    /// Admits a reading and counts it.
    pub(super) fn admit(&mut self, device: ResolvedDevice, n_bytes: usize, at: DateTime<Utc>) -> bool {
        let day = at.date_naive();
        if day != self.day {
            self.day = day;
            self.devices.clear();
        }
        let sum = self.devices.entry(device.device).or_insert_with(|| Sum::stored(device.stored, day));
        let bytes = sum.bytes.saturating_add(n_bytes as u64);
        let is_admitted = self.limit.is_none_or(|limit| bytes <= limit);
        if is_admitted {
            sum.bytes = bytes;
        }
        is_admitted
    }

    /// Whether admins are to see this dropped message: one per device and minute.
    pub(super) fn is_reported(&mut self, device: DeviceId, at: DateTime<Utc>) -> bool {
        self.devices.get_mut(&device).is_some_and(|sum| sum.last_report.renew_if_due(at))
    }

    /// Whether so much was accepted that the device's row is to be written, asked once for each such amount.
    pub(super) fn is_write_due(&mut self, device: DeviceId) -> bool {
        let Some(sum) = self.devices.get_mut(&device) else { return false };
        let is_due = sum.bytes - sum.written >= UNWRITTEN_BYTES;
        if is_due {
            sum.written = sum.bytes;
        }
        is_due
    }

    /// The device's sum, to be written.
    pub(super) fn take_unwritten(&mut self, device: DeviceId) -> Option<StoredBytes> {
        let sum = self.devices.get_mut(&device)?;
        sum.written = sum.bytes;
        Some(StoredBytes { day: self.day, bytes: i64::try_from(sum.bytes).unwrap_or(i64::MAX) })
    }
}

impl Sum {
    /// Continues with what is in the database of this day.
    fn stored(stored: Option<StoredBytes>, day: NaiveDate) -> Self {
        let bytes = stored.filter(|stored| stored.day == day).map_or(0, |stored| stored.bytes);
        let bytes = u64::try_from(bytes).unwrap_or_default();
        Self { bytes, written: bytes, last_report: LastReport::default() }
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;
    use crate::ids::HomeId;

    fn device(stored: Option<StoredBytes>) -> ResolvedDevice {
        ResolvedDevice { stored, ..ResolvedDevice::online(HomeId::from_database(1), DeviceId::from_database(7)) }
    }

    fn day(n: u32) -> DateTime<Utc> {
        NaiveDate::from_ymd_opt(2026, 11, n).unwrap().and_hms_opt(23, 59, 59).unwrap().and_utc()
    }

    #[test]
    fn a_day_ends_at_midnight_utc_and_continues_after_a_restart() {
        let mut storage = DailyStorage::new(Some(100));
        let stored = StoredBytes { day: day(1).date_naive(), bytes: 60 };
        assert!(storage.admit(device(Some(stored)), 40, day(1)));
        assert!(!storage.admit(device(Some(stored)), 1, day(1)), "60 were stored before the restart");
        assert!(storage.admit(device(Some(stored)), 0, day(1)));
        assert_eq!(storage.take_unwritten(device(None).device), Some(StoredBytes { bytes: 100, ..stored }));
        let midnight = day(1) + TimeDelta::seconds(1);
        assert!(storage.admit(device(Some(stored)), 100, midnight));
        assert!(!storage.admit(device(Some(stored)), 1, midnight));
        let tomorrow = StoredBytes { day: midnight.date_naive(), bytes: 100 };
        assert_eq!(storage.take_unwritten(device(None).device), Some(tomorrow));
    }

    #[test]
    fn one_dropped_message_a_minute_is_reported() {
        let mut storage = DailyStorage::new(Some(0));
        let device = device(None);
        let reported = |storage: &mut DailyStorage, seconds| {
            let at = day(1) - TimeDelta::seconds(100) + TimeDelta::seconds(seconds);
            assert!(!storage.admit(device, 1, at));
            storage.is_reported(device.device, at)
        };
        assert_eq!([0, 1, 59, 60, 61].map(|s| reported(&mut storage, s)), [true, false, false, true, false]);
    }

    #[test]
    fn a_write_is_due_once_for_each_amount() {
        let mut storage = DailyStorage::new(None);
        let (device, chunk) = (device(None), 1 << 20);
        let due: Vec<bool> = (0..9)
            .map(|_| {
                assert!(storage.admit(device, chunk, day(1)));
                storage.is_write_due(device.device)
            })
            .collect();
        assert_eq!(due, [false, false, false, true, false, false, false, true, false]);
        storage.take_unwritten(device.device);
        assert!(storage.admit(device, 3 * chunk, day(1)) && !storage.is_write_due(device.device));
    }
}
