//! The state of a device: presence, status, health.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde_json::Value;

use super::device::Reported;
use crate::hub::Hub;
use crate::ids::DeviceId;

/// The live stream of changed device states.
pub type StateHub = Hub<DeviceState>;

#[derive(Debug, Clone, PartialEq)]
pub struct DeviceState {
    pub device: DeviceId,
    pub online: bool,
    /// When `online` last changed.
    pub online_changed_at: Option<DateTime<Utc>>,
    /// When a message of the device was last received; written at most every 10 s.
    pub last_seen_at: Option<DateTime<Utc>>,
    pub firmware_version: Option<String>,
    /// dBm.
    pub signal_strength: Option<f64>,
    /// Percent.
    pub battery_level: Option<f64>,
    /// `{"lastStatus": {...}}`: the last status message.
    pub metadata: Arc<Value>,
    /// What the device last reported itself to be.
    pub reported: Option<Reported>,
    /// Messages dropped because the device exceeded its rate limit.
    pub shed_messages: i64,
    /// When the last of them was received.
    pub last_shed_at: Option<DateTime<Utc>>,
}

/// The health that a device reports in any kind of message; `None` where a message does not contain it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Report {
    pub firmware_version: Option<String>,
    /// dBm.
    pub signal_strength: Option<f64>,
    /// Percent.
    pub battery_level: Option<f64>,
}

impl Report {
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Adds the report of a later message.
    pub(super) fn merge(&mut self, later: &Self) {
        // Mostly the same version again, into the text that is there.
        if later.firmware_version.is_some() {
            self.firmware_version.clone_from(&later.firmware_version);
        }
        self.signal_strength = later.signal_strength.or(self.signal_strength);
        self.battery_level = later.battery_level.or(self.battery_level);
    }
}

/// A status message.
#[derive(Debug, Clone, PartialEq)]
pub struct StatusReport {
    /// False in the Last Will.
    pub online: bool,
    pub report: Report,
    /// The whole message, stored as `metadata.lastStatus`.
    pub last_status: Value,
    /// The time by the device's clock, where it is plausible.
    pub timestamp: Option<DateTime<Utc>>,
    /// What the device reports itself to be, an object. `None` if it reports nothing of it.
    pub state: Option<Value>,
    /// Fields of the state that could not be stored.
    pub n_dropped: usize,
}
