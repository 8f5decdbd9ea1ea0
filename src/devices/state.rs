//! What a device last said of itself: presence, status, health.

use chrono::{DateTime, Utc};
use serde_json::Value;

use crate::hub::Hub;
use crate::ids::DeviceId;

/// The live stream of changed device states, by home.
pub type StateHub = Hub<DeviceState>;

/// One device's present state.
#[derive(Debug, Clone, PartialEq)]
pub struct DeviceState {
    /// Whose.
    pub device: DeviceId,
    /// Whether it counts as present.
    pub online: bool,
    /// When that last changed.
    pub online_changed_at: Option<DateTime<Utc>>,
    /// Last sign of life, written at most once in 10 s.
    pub last_seen_at: Option<DateTime<Utc>>,
    /// As it last reported.
    pub firmware_version: Option<String>,
    /// dBm.
    pub signal_strength: Option<f64>,
    /// Percent.
    pub battery_level: Option<f64>,
    /// The seed's `{"lastStatus": {...}}`.
    pub metadata: Value,
}

/// What a device says of its own health, in any kind of message; `None` where it says nothing.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Report {
    /// Its firmware.
    pub firmware_version: Option<String>,
    /// dBm.
    pub signal_strength: Option<f64>,
    /// Percent.
    pub battery_level: Option<f64>,
}

/// A status message.
#[derive(Debug, Clone, PartialEq)]
pub struct StatusReport {
    /// Whether the device says it is there; its Last Will says it is not.
    pub online: bool,
    /// Its health.
    pub report: Report,
    /// The message as it came, kept as `metadata.lastStatus`.
    pub last_status: Value,
}
