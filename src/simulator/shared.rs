//! State that the connections of a fleet share.

use std::sync::atomic::{AtomicU64, Ordering};

use super::command_events::{CommandEvent, CommandListener};
use super::config::FleetConfig;
use super::report::Counters;

pub(crate) struct Shared {
    pub(crate) config: FleetConfig,
    pub(crate) counters: Counters,
    pub(crate) listener: Option<CommandListener>,
    pub(crate) n_arrivals: AtomicU64,
}

impl Shared {
    /// The number of the next arrival of a command.
    pub(crate) fn next_arrival(&self) -> u64 {
        self.n_arrivals.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn notify(&self, event: CommandEvent) {
        if let Some(listener) = &self.listener {
            listener(event);
        }
    }
}
