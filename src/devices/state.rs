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
