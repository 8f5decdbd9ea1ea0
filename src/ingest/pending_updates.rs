//! Updates of a device's state that are no news: gathered for a moment, so that one statement writes many of them and
//! none delays the message it came with. A crash loses them: a moment of `lastSeenAt`, or the values of a report.

use std::collections::hash_map::Entry;
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use crate::devices::StateChange;
use crate::ids::{DeviceId, IdMap};

/// Longest time that an update of `last_seen_at` waits.
const MAX_DELAY: Duration = Duration::from_secs(1);

/// Longest time that a report waits whose device's row was written lately.
const MAX_REPORT_DELAY: Duration = Duration::from_secs(10);

/// Updates written with one batch: as many as it has messages within these bounds, so that it hardly takes longer.
const PER_BATCH: RangeInclusive<usize> = 8..=64;

/// The updates that wait, at most one per device.
pub(super) struct PendingUpdates {
    last_seen: Waiting,
    reports: Waiting,
}

/// Updates that wait equally long. Once the oldest is due all are, and those that come then wait their own time: so a
/// device has at most one update in that time.
struct Waiting {
    gathered: IdMap<DeviceId, StateChange>,
    /// When the oldest of them came.
    since: Option<Instant>,
    due: IdMap<DeviceId, StateChange>,
    due_since: Option<Instant>,
    max_delay: Duration,
}

impl Default for PendingUpdates {
    fn default() -> Self {
        Self { last_seen: Waiting::new(MAX_DELAY), reports: Waiting::new(MAX_REPORT_DELAY) }
    }
}

impl PendingUpdates {
    /// Adds an update of `last_seen_at`, and of whatever its message reported.
    pub(super) fn insert(&mut self, change: StateChange) {
        self.last_seen.insert(merged(self.reports.remove(change.device), change));
    }

    /// Adds the report of a message that came too soon after another for an update of its own. It is written with the
    /// device's next update, and soon enough without one.
    pub(super) fn insert_report(&mut self, change: StateChange) {
        if let Some(earlier) = self.get_mut(change.device) {
            return earlier.merge(change);
        }
        self.reports.insert(change);
    }

    /// The device's update that waits, to which a report is added.
    pub(super) fn get_mut(&mut self, device: DeviceId) -> Option<&mut StateChange> {
        self.last_seen.get_mut(device).or_else(|| self.reports.get_mut(device))
    }

    /// Takes out the device's update, to be written together with a newer change.
    pub(super) fn remove(&mut self, device: DeviceId) -> Option<StateChange> {
        self.last_seen.remove(device).or_else(|| self.reports.remove(device))
    }

    /// When [`PendingUpdates::take`] is to be called next.
    pub(super) fn due_at(&self) -> Option<Instant> {
        [self.last_seen.due_at(), self.reports.due_at()].into_iter().flatten().min()
    }

    /// Takes out updates that are due at `now`, for a batch of so many messages; the rest stays due.
    pub(super) fn take_beside(&mut self, n_messages: usize, now: Instant) -> Vec<StateChange> {
        let n = n_messages.clamp(*PER_BATCH.start(), *PER_BATCH.end());
        let mut taken = self.last_seen.take(now, n);
        taken.extend(self.reports.take(now, n - taken.len()));
        taken
    }

    /// Takes out updates that are due at `now`, for a batch of their own; the rest stays due.
    pub(super) fn take(&mut self, now: Instant) -> Vec<StateChange> {
        self.take_beside(*PER_BATCH.end(), now)
    }

    /// Takes out all updates.
    pub(super) fn take_all(&mut self) -> Vec<StateChange> {
        let Self { last_seen, reports } = std::mem::take(self);
        [last_seen, reports].into_iter().flat_map(|it| it.due.into_values().chain(it.gathered.into_values())).collect()
    }

    /// Makes the updates due now.
    #[cfg(test)]
    pub(super) fn make_due(&mut self) {
        for waiting in [&mut self.last_seen, &mut self.reports] {
            waiting.since = Instant::now().checked_sub(waiting.max_delay);
        }
    }
}

impl Waiting {
    fn new(max_delay: Duration) -> Self {
        Self { gathered: IdMap::default(), since: None, due: IdMap::default(), due_since: None, max_delay }
    }

    fn insert(&mut self, change: StateChange) {
        if let Some(earlier) = self.due.get_mut(&change.device) {
            return earlier.merge(change);
        }
        self.since.get_or_insert_with(Instant::now);
        match self.gathered.entry(change.device) {
            Entry::Occupied(mut earlier) => earlier.get_mut().merge(change),
            Entry::Vacant(vacant) => _ = vacant.insert(change),
        }
    }

    fn get_mut(&mut self, device: DeviceId) -> Option<&mut StateChange> {
        self.due.get_mut(&device).or_else(|| self.gathered.get_mut(&device))
    }

    fn remove(&mut self, device: DeviceId) -> Option<StateChange> {
        self.due.remove(&device).or_else(|| self.gathered.remove(&device))
    }

    fn due_at(&self) -> Option<Instant> {
        self.due_since.or_else(|| self.since.map(|since| since + self.max_delay))
    }

    fn take(&mut self, now: Instant, limit: usize) -> Vec<StateChange> {
        if self.due.is_empty() && self.since.is_some_and(|since| since + self.max_delay <= now) {
            (self.due, self.due_since) = (std::mem::take(&mut self.gathered), self.since.take());
        }
        let devices: Vec<DeviceId> = self.due.keys().copied().take(limit).collect();
        let changes = devices.iter().filter_map(|device| self.due.remove(device)).collect();
        if self.due.is_empty() {
            self.due_since = None;
        }
        changes
    }
}

/// A change, after an earlier one of the same device if there is one.
fn merged(earlier: Option<StateChange>, change: StateChange) -> StateChange {
    match earlier {
        Some(mut earlier) => {
            earlier.merge(change);
            earlier
        }
        None => change,
    }
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, TimeDelta};

    use super::*;
    use crate::devices::{Report, ResolvedDevice};
    use crate::ids::HomeId;

    const SECOND: Duration = Duration::from_secs(1);

    fn change(device: i64, seconds: i64, battery: Option<f64>, signal: Option<f64>) -> StateChange {
        let device = ResolvedDevice::online(HomeId::from_database(1), DeviceId::from_database(device));
        let report = Report { battery_level: battery, signal_strength: signal, ..Report::default() };
        StateChange { report, ..StateChange::seen(device, DateTime::UNIX_EPOCH + TimeDelta::seconds(seconds)) }
    }

    fn reports(changes: &[StateChange]) -> Vec<(Option<f64>, Option<f64>)> {
        changes.iter().map(|change| (change.report.battery_level, change.report.signal_strength)).collect()
    }

    #[test]
    fn a_report_is_written_with_the_next_update_or_soon_without_one() {
        let mut pending = PendingUpdates::default();
        pending.insert_report(change(1, 0, Some(90.0), Some(-60.0)));
        pending.insert_report(change(1, 1, Some(89.0), None));
        assert_eq!(pending.take(Instant::now() + 2 * SECOND), []);
        let later = Instant::now() + MAX_REPORT_DELAY;
        assert_eq!(reports(&pending.take(later)), [(Some(89.0), Some(-60.0))]);
        assert_eq!(pending.due_at(), None);

        pending.insert_report(change(1, 2, Some(88.0), None));
        pending.insert(change(1, 3, None, Some(-61.0)));
        pending.insert_report(change(1, 4, Some(87.0), None));
        let taken = pending.take(Instant::now() + 2 * SECOND);
        assert_eq!(reports(&taken), [(Some(87.0), Some(-61.0))], "one update of the device");
        assert_eq!(pending.take_all(), []);
    }

    #[test]
    fn a_batch_takes_some_updates_and_the_stop_takes_all() {
        let mut pending = PendingUpdates::default();
        for device in 0..100 {
            pending.insert(change(device, 0, None, None));
            pending.insert_report(change(100 + device, 0, Some(1.0), None));
        }
        pending.make_due();
        assert_eq!(pending.take_beside(1, Instant::now()).len(), 8);
        assert_eq!(pending.take(Instant::now()).len(), 64);
        assert!(pending.due_at().is_some_and(|at| at <= Instant::now()), "the rest stays due");
        pending.insert(change(500, 0, None, None));
        assert_eq!(pending.take_beside(1_000, Instant::now()).len(), 64, "of both kinds");
        assert!(pending.remove(DeviceId::from_database(500)).is_some(), "a new one waits its own time");
        assert_eq!(pending.remove(DeviceId::from_database(300)), None);
        assert_eq!(pending.take_all().len(), 200 - 8 - 64 - 64);
        assert_eq!(pending.due_at(), None);
    }
}
