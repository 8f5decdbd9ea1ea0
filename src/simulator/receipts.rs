//! What the devices saw of commands and what they said to them: the other side of a server's
//! statuses, for whoever compares the two.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, Utc};

/// Commands a fleet remembers, some 200 bytes each; what comes after them is counted and not kept.
const MAX_RECEIPTS: usize = 200_000;

/// What a device said to a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said {
    /// `ACKED`
    Acked,
    /// `SUCCEEDED`
    Succeeded,
    /// `FAILED`
    Failed,
    /// Nothing, but a status message showed what it was set to.
    Shown,
}

/// One arrival of a command at a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// The command's id on the wire.
    pub command_id: String,
    /// When the device read it.
    pub received_at: DateTime<Utc>,
    /// Until when it was good, by its own word.
    pub expires_at: Option<DateTime<Utc>>,
    /// Whether the device had read the same id before: QoS 1 may deliver twice.
    pub is_repeat: bool,
    /// What the device gave to its link in answer, in order. Written before it can reach the broker.
    pub said: Vec<Said>,
}

impl Receipt {
    /// Whether it came after its time.
    pub fn is_late(&self) -> bool {
        self.expires_at.is_some_and(|expires_at| expires_at < self.received_at)
    }
}

/// Where a receipt is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Slot(usize);

/// See the module.
#[derive(Default)]
pub struct Receipts(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    /// In order of arrival, with the device's number in the fleet.
    all: Vec<(usize, Receipt)>,
    /// Which device has read which id.
    seen: HashSet<(usize, String)>,
}

impl Receipts {
    /// Every arrival at device number `device` of the fleet, in order.
    pub fn of(&self, device: usize) -> Vec<Receipt> {
        let inner = self.lock();
        inner.all.iter().filter(|(of, _)| *of == device).map(|(_, receipt)| receipt.clone()).collect()
    }

    /// Every arrival in order, with the device's number in the fleet.
    pub fn all(&self) -> Vec<(usize, Receipt)> {
        self.lock().all.clone()
    }

    /// Writes an arrival down; says whether it was a repeat, and where it is kept, if it is.
    pub(crate) fn note(
        &self,
        device: usize,
        command_id: &str,
        received_at: DateTime<Utc>,
        expires_at: Option<DateTime<Utc>>,
    ) -> (bool, Option<Slot>) {
        let mut inner = self.lock();
        let key = (device, command_id.to_owned());
        let is_repeat = inner.seen.contains(&key);
        if inner.all.len() >= MAX_RECEIPTS {
            return (is_repeat, None);
        }
        inner.seen.insert(key);
        let command_id = command_id.to_owned();
        inner.all.push((device, Receipt { command_id, received_at, expires_at, is_repeat, said: Vec::new() }));
        (is_repeat, Some(Slot(inner.all.len() - 1)))
    }

    /// Writes down what was said to it.
    pub(crate) fn add(&self, slot: Slot, said: Said) {
        if let Some((_, receipt)) = self.lock().all.get_mut(slot.0) {
            receipt.said.push(said);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Each change is one push: a panic elsewhere leaves nothing half-made.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeat_is_known_by_device_and_id_and_lateness_by_the_commands_own_word() {
        let receipts = Receipts::default();
        let at = |s: i64| DateTime::from_timestamp(1_770_984_000 + s, 0).unwrap();
        let (repeat, slot) = receipts.note(0, "a", at(0), Some(at(5)));
        assert!(!repeat);
        receipts.add(slot.unwrap(), Said::Acked);
        receipts.add(slot.unwrap(), Said::Succeeded);
        assert!(!receipts.note(1, "a", at(1), None).0, "another device");
        assert!(receipts.note(0, "a", at(6), Some(at(5))).0);

        let of_first = receipts.of(0);
        assert_eq!(of_first.iter().map(Receipt::is_late).collect::<Vec<_>>(), [false, true]);
        assert_eq!(of_first[0].said, [Said::Acked, Said::Succeeded]);
        assert!(of_first[1].said.is_empty() && of_first[1].is_repeat);
        assert_eq!(receipts.all().len(), 3);
        assert!(!receipts.of(1)[0].is_late(), "it never said until when");
    }
}
