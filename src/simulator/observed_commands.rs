//! Every command that a fleet received and the answers to it: a test compares them with the server's statuses.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard};

use chrono::{DateTime, Utc};

/// Commands a fleet remembers, some 200 bytes each; later ones are counted and not kept.
const MAX_OBSERVED: usize = 200_000;

/// An answer that a device sent to a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SentAnswer {
    Acked,
    Succeeded,
    Failed,
    /// A status message that shows the effect.
    Effect,
}

/// One arrival of a command at a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObservedCommand {
    pub command_id: String,
    pub received_at: DateTime<Utc>,
    pub expires_at: Option<DateTime<Utc>>,
    /// The device had received the same id before: QoS 1 may deliver twice.
    pub is_repeat: bool,
    /// The answers in order, recorded before they can reach the broker.
    pub answers: Vec<SentAnswer>,
}

impl ObservedCommand {
    /// Whether it arrived after its `expiresAt`.
    pub fn is_late(&self) -> bool {
        self.expires_at.is_some_and(|expires_at| expires_at < self.received_at)
    }
}

/// The index of an arrival.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ArrivalIndex(usize);

#[derive(Default)]
pub struct ObservedCommands(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    /// In order of arrival, with the device's number in the fleet.
    arrivals: Vec<(usize, ObservedCommand)>,
    /// The ids that each device has received.
    seen: HashSet<(usize, String)>,
}

impl ObservedCommands {
    /// The arrivals at one device of the fleet, in order.
    pub fn of(&self, device: usize) -> Vec<ObservedCommand> {
        let inner = self.lock();
        inner.arrivals.iter().filter(|(of, _)| *of == device).map(|(_, observed)| observed.clone()).collect()
    }

    /// Every arrival in order, with the device's number in the fleet.
    pub fn all(&self) -> Vec<(usize, ObservedCommand)> {
        self.lock().arrivals.clone()
    }

    /// Records an arrival. Returns whether it is a repeat, and its index if it was kept.
    pub(crate) fn record(
        &self,
        device: usize,
        command_id: &str,
        received_at: DateTime<Utc>,
        expires_at: Option<DateTime<Utc>>,
    ) -> (bool, Option<ArrivalIndex>) {
        let mut inner = self.lock();
        let key = (device, command_id.to_owned());
        let is_repeat = inner.seen.contains(&key);
        if inner.arrivals.len() >= MAX_OBSERVED {
            return (is_repeat, None);
        }
        inner.seen.insert(key);
        let command_id = command_id.to_owned();
        inner
            .arrivals
            .push((device, ObservedCommand { command_id, received_at, expires_at, is_repeat, answers: Vec::new() }));
        (is_repeat, Some(ArrivalIndex(inner.arrivals.len() - 1)))
    }

    pub(crate) fn record_answer(&self, index: ArrivalIndex, answer: SentAnswer) {
        if let Some((_, observed)) = self.lock().arrivals.get_mut(index.0) {
            observed.answers.push(answer);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().expect("observed commands lock")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeat_has_the_same_device_and_id_and_a_late_command_has_expired() {
        let observed = ObservedCommands::default();
        let at = |s: i64| DateTime::from_timestamp(1_770_984_000 + s, 0).unwrap();
        let (is_repeat, index) = observed.record(0, "a", at(0), Some(at(5)));
        assert!(!is_repeat);
        observed.record_answer(index.unwrap(), SentAnswer::Acked);
        observed.record_answer(index.unwrap(), SentAnswer::Succeeded);
        assert!(!observed.record(1, "a", at(1), None).0, "another device");
        assert!(observed.record(0, "a", at(6), Some(at(5))).0);

        let of_first = observed.of(0);
        assert_eq!(of_first.iter().map(ObservedCommand::is_late).collect::<Vec<_>>(), [false, true]);
        assert_eq!(of_first[0].answers, [SentAnswer::Acked, SentAnswer::Succeeded]);
        assert!(of_first[1].answers.is_empty() && of_first[1].is_repeat);
        assert_eq!(observed.all().len(), 3);
        assert!(!observed.of(1)[0].is_late(), "it has no expiresAt");
    }
}
