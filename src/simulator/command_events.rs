//! The commands that a fleet receives and their answers, as events for a listener.

use std::collections::HashSet;
use std::sync::Arc;

use chrono::{DateTime, Utc};

/// Command ids that a device remembers to recognise repeats. Later ids are not remembered.
const MAX_REMEMBERED: usize = 10_000;

/// Called with every event, in order, on the task of the device.
pub type CommandListener = Arc<dyn Fn(CommandEvent) + Send + Sync>;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommandEvent {
    Received(ReceivedCommand),
    /// An answer, before it can reach the broker. The number is that of the arrival.
    Answered(u64, SentAnswer),
}

/// One arrival of a command at a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceivedCommand {
    /// Counts the arrivals of the fleet.
    pub arrival: u64,
    /// The number of the device in the fleet.
    pub device: usize,
    pub command_id: String,
    pub received_at: DateTime<Utc>,
    pub expires_at: Option<DateTime<Utc>>,
    /// The device had received the same id before: QoS 1 may deliver twice.
    pub is_repeat: bool,
}

/// An answer that a device sent to a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SentAnswer {
    Acked,
    Succeeded,
    Failed,
    /// A status message that shows the effect.
    Effect,
}

/// The command ids that one device has received.
#[derive(Default)]
pub(crate) struct ReceivedIds(HashSet<String>);

impl ReceivedIds {
    /// Remembers an id. Returns whether the device had received it before.
    pub(crate) fn insert(&mut self, id: &str) -> bool {
        self.0.contains(id) || {
            if self.0.len() < MAX_REMEMBERED {
                self.0.insert(id.to_owned());
            }
            false
        }
    }
}
