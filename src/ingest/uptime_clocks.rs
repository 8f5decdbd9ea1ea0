//! Devices whose "epoch seconds" are milliseconds since boot (Arduino's `millis()`). From the 18th day of uptime these are
//! numbers that epoch seconds had since 2020, but they rise a thousand times as fast as the time.

use chrono::{DateTime, TimeDelta, Utc};

use crate::ids::{DeviceId, IdMap};

/// A younger timestamp is not in doubt: uptimes run through this window in 86 s.
const MAX_PLAUSIBLE_AGE: TimeDelta = TimeDelta::days(1);
/// Messages are compared over at least this time, so that their way through the network does not matter.
const MIN_INTERVAL: TimeDelta = TimeDelta::seconds(5);
/// By how much the rise of milliseconds may differ from the time of the server's clock, in percent.
const TOLERANCE_PERCENT: i64 = 5;
/// Devices remembered at most; when there are more, all are forgotten.
const MAX_DEVICES: usize = 16_384;

/// The old timestamps of devices, whose rise tells what they count. The writer owns it.
#[derive(Debug, Default)]
pub(super) struct UptimeClocks {
    devices: IdMap<DeviceId, Seen>,
}

#[derive(Debug, Clone, Copy)]
struct Seen {
    timestamp: DateTime<Utc>,
    received_at: DateTime<Utc>,
    counts_uptime: bool,
}

impl UptimeClocks {
    /// The timestamp, unless it is an uptime. The first old timestamps of a device are believed, because a device may
    /// also deliver what it measured days ago.
    pub(super) fn check(
        &mut self,
        device: DeviceId,
        timestamp: DateTime<Utc>,
        received_at: DateTime<Utc>,
    ) -> Option<DateTime<Utc>> {
        let may_be_uptime = timestamp.timestamp_subsec_nanos() == 0 && u32::try_from(timestamp.timestamp()).is_ok();
        if !may_be_uptime || received_at - timestamp < MAX_PLAUSIBLE_AGE {
            if !self.devices.is_empty() {
                self.devices.remove(&device);
            }
            return Some(timestamp);
        }
        if self.devices.len() >= MAX_DEVICES && !self.devices.contains_key(&device) {
            self.devices.clear();
        }
        let first = Seen { timestamp, received_at, counts_uptime: false };
        let seen = self.devices.entry(device).or_insert(first);
        if received_at - seen.received_at >= MIN_INTERVAL {
            let counts_uptime = rises_as_milliseconds(timestamp - seen.timestamp, received_at - seen.received_at);
            *seen = Seen { timestamp, received_at, counts_uptime };
        }
        (!seen.counts_uptime).then_some(timestamp)
    }
}

fn rises_as_milliseconds(rise: TimeDelta, interval: TimeDelta) -> bool {
    let (rise, interval) = (rise.num_seconds(), interval.num_milliseconds());
    (rise - interval).abs() * 100 <= interval * TOLERANCE_PERCENT
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> DateTime<Utc> {
        "2026-02-13T12:00:00Z".parse().unwrap()
    }

    /// Whether timestamps that rise by so many seconds in so many milliseconds are believed, message by message.
    fn believed(start: i64, rises: &[(i64, i64)]) -> Vec<bool> {
        let (mut clocks, device) = (UptimeClocks::default(), DeviceId::from_database(1));
        let (mut timestamp, mut received_at) = (DateTime::from_timestamp(start, 0).unwrap(), now());
        let mut check = |(seconds, ms)| {
            timestamp += TimeDelta::seconds(seconds);
            received_at += TimeDelta::milliseconds(ms);
            clocks.check(device, timestamp, received_at).is_some()
        };
        [(0, 0)].iter().chain(rises).map(|rise| check(*rise)).collect()
    }

    const OLD: i64 = 1_650_000_000;

    #[test]
    fn a_device_that_counts_milliseconds_is_found_at_its_second_message() {
        assert_eq!(believed(OLD, &[(10_000, 10_000), (10_010, 10_050), (60_000, 60_100)]), [true, false, false, false]);
        let every_second = believed(OLD, &[(1_000, 1_000); 7]);
        assert_eq!(every_second, [true, true, true, true, true, false, false, false], "compared over five seconds");
    }

    #[test]
    fn what_was_measured_days_ago_keeps_its_time() {
        for rise in [(10, 10_000), (600, 1), (86_400, 10_000), (0, 60_000), (-3_600, 5_000)] {
            assert_eq!(believed(OLD, &[rise; 5]), [true; 6], "{rise:?}");
        }
        assert_eq!(believed(now().timestamp() - 60, &[(60, 60_000); 3]), [true; 4], "a right clock");
    }

    #[test]
    fn a_device_that_gets_the_time_is_believed_again() {
        let (mut clocks, device) = (UptimeClocks::default(), DeviceId::from_database(1));
        let mut check = |timestamp, received_at| clocks.check(device, timestamp, received_at).is_some();
        let (old, later) = (DateTime::from_timestamp(OLD, 0).unwrap(), TimeDelta::seconds(10));
        assert!(check(old, now()));
        assert!(!check(old + TimeDelta::seconds(10_000), now() + later));
        assert!(check(now() + later, now() + later));
        assert!(check(old, now() + later));
    }

    #[test]
    fn memory_is_bounded() {
        let mut clocks = UptimeClocks::default();
        for id in 1..=2 * MAX_DEVICES as i64 {
            clocks.check(DeviceId::from_database(id), DateTime::from_timestamp(OLD, 0).unwrap(), now());
        }
        assert!(clocks.devices.len() <= MAX_DEVICES);
    }
}
