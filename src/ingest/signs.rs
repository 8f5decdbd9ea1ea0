//! Signs of life that are no news: gathered for a moment, so that many are written in one statement
//! and none delays the message it came with. A crash costs a moment of `lastSeenAt`, nothing else.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::devices::StateChange;
use crate::ids::DeviceId;

/// Longest a sign waits to be written.
const GATHER: Duration = Duration::from_secs(1);

/// Signs written with one batch: few, so that it hardly takes longer.
const AT_ONCE: usize = 64;

/// Signs that wait, at most one a device.
#[derive(Default)]
pub(super) struct Signs {
    waiting: HashMap<DeviceId, StateChange>,
    since: Option<Instant>,
}

impl Signs {
    pub(super) fn put(&mut self, sign: StateChange) {
        self.since.get_or_insert_with(Instant::now);
        self.waiting.insert(sign.device, sign);
    }

    /// Something newer is to be written of the device: what waits goes with it, not after it.
    pub(super) fn supersede(&mut self, device: DeviceId) -> Option<StateChange> {
        self.waiting.remove(&device)
    }

    /// When those that wait are to be written.
    pub(super) fn due_at(&self) -> Option<Instant> {
        self.since.map(|since| since + GATHER)
    }

    /// As if those that wait had waited long enough.
    #[cfg(test)]
    pub(super) fn make_due(&mut self) {
        self.since = Instant::now().checked_sub(GATHER);
    }

    /// Some of them; the rest is due at once.
    pub(super) fn take(&mut self) -> Vec<StateChange> {
        let devices: Vec<DeviceId> = self.waiting.keys().copied().take(AT_ONCE).collect();
        let signs = devices.iter().filter_map(|device| self.waiting.remove(device)).collect();
        if self.waiting.is_empty() {
            self.since = None;
        }
        signs
    }
}
