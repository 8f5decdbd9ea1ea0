//! State that the connections of a fleet share.

use super::config::FleetConfig;
use super::observed_commands::ObservedCommands;
use super::report::Counters;

/// State that all connections of a fleet share.
pub(crate) struct Shared {
    pub(crate) config: FleetConfig,
    pub(crate) counters: Counters,
    pub(crate) observed: ObservedCommands,
}
