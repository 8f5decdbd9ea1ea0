//! Updates of `last_seen_at` alone: gathered for a moment, so that one statement writes many of them and none
//! delays the message it came with. A crash loses a moment of `lastSeenAt` and nothing else.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use crate::devices::StateChange;
use crate::ids::DeviceId;

/// Longest time an update waits.
const MAX_DELAY: Duration = Duration::from_secs(1);

/// Updates written with one batch: as many as it has messages within these bounds, so that it hardly takes longer.
const PER_BATCH: RangeInclusive<usize> = 8..=64;

/// The updates that wait, at most one per device.
#[derive(Default)]
pub(super) struct PendingLastSeen {
    changes: HashMap<DeviceId, StateChange>,
    /// When the oldest of them came.
    since: Option<Instant>,
}

impl PendingLastSeen {
    pub(super) fn insert(&mut self, change: StateChange) {
        self.since.get_or_insert_with(Instant::now);
        match self.changes.entry(change.device) {
            Entry::Occupied(mut earlier) => earlier.get_mut().merge(change),
            Entry::Vacant(vacant) => _ = vacant.insert(change),
        }
    }

    /// Takes out the device's update, to be written together with a newer change.
    pub(super) fn remove(&mut self, device: DeviceId) -> Option<StateChange> {
        self.changes.remove(&device)
    }

    /// When [`PendingLastSeen::take`] is to be called next.
    pub(super) fn due_at(&self) -> Option<Instant> {
        self.since.map(|since| since + MAX_DELAY)
    }

    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.due_at().is_some_and(|at| at <= now)
    }

    /// Takes out updates for a batch of so many messages; the rest stays due.
    pub(super) fn take_beside(&mut self, n_messages: usize) -> Vec<StateChange> {
        let n = n_messages.clamp(*PER_BATCH.start(), *PER_BATCH.end());
        let devices: Vec<DeviceId> = self.changes.keys().copied().take(n).collect();
        let changes = devices.iter().filter_map(|device| self.changes.remove(device)).collect();
        if self.changes.is_empty() {
            self.since = None;
        }
        changes
    }

    /// Takes out updates for a batch of their own; the rest stays due.
    pub(super) fn take(&mut self) -> Vec<StateChange> {
        self.take_beside(*PER_BATCH.end())
    }

    /// Makes the updates due now.
    #[cfg(test)]
    pub(super) fn make_due(&mut self) {
        self.since = Instant::now().checked_sub(MAX_DELAY);
    }
}
