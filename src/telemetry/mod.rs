//! Readings: one row per telemetry message, published to subscribers after its commit.

mod copy_store;
mod device_history_store;
mod feed;
pub mod history;
mod history_page;
mod history_store;
mod hub;
mod page_store;
mod parked_store;
mod partition_store;
mod partitions;
mod read_store;
mod recent_bounds;
mod recent_histories;
mod recent_pages;
mod sensors;
mod write_store;

use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde_json::Value;

use crate::db::{JsonText, MemorySize};
use crate::devices::Report;
use crate::ids::{DeviceId, HomeId, TelemetryId};

pub use copy_store::{COPY, LAST_ID, rows};
pub use feed::{LastReceived, LiveReadings};
pub use hub::ReadingHub;
pub use page_store::DeviceWithLatest;
pub use parked_store::{ParkedPosition, count_parked, find_parked, find_parked_months, is_committed, move_parked};
pub use partition_store::{Month, MonthTable, ensure_month, is_attached};
pub use partitions::Partitions;
pub(crate) use read_store::SensorColumn;
pub use sensors::Sensors;
pub(crate) use sensors::for_each_sensor;
pub use write_store::{find_committed, insert, insert_parked, last_cursor};

/// A committed reading, shared by all its subscribers.
pub type SharedReading = Arc<Reading>;

/// The clock that gave [`Reading::recorded_at`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeSource {
    Device,
    /// The server's: the time of receipt.
    Server,
}

/// One telemetry message as it was committed.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    /// Opaque cursor in the order of commits.
    pub id: TelemetryId,
    pub home: HomeId,
    pub device: DeviceId,
    /// Effective time of the reading.
    pub recorded_at: DateTime<Utc>,
    /// Time of receipt from the broker.
    pub received_at: DateTime<Utc>,
    pub time_source: TimeSource,
    pub sensors: Sensors,
    /// Values of unknown sensors, as a JSON object.
    pub extra: Option<JsonText>,
    pub firmware_version: Option<String>,
    /// dBm.
    pub signal_strength: Option<f64>,
    /// Percent.
    pub battery_level: Option<f64>,
}

impl MemorySize for Reading {
    fn text_bytes(&self) -> usize {
        self.extra.as_ref().map_or(0, JsonText::text_bytes)
    }
}

/// The content of one telemetry message.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Measurement {
    pub sensors: Sensors,
    /// Firmware, signal and battery.
    pub report: Report,
    /// Values of unknown sensors, as a JSON object.
    pub extra: Option<Value>,
    /// Other fields of the message, as a JSON object.
    pub metadata: Option<Value>,
}

impl Measurement {
    /// A value by its name in messages; `None` where the message lacks it.
    pub fn value(&self, name: &str) -> Option<Value> {
        if let Some(value) = self.sensors.value(name) {
            return value;
        }
        let report = &self.report;
        match name {
            "firmwareVersion" => report.firmware_version.clone().map(Value::from),
            "signalStrength" | "wifiSignal" => report.signal_strength.map(Value::from),
            "batteryLevel" => report.battery_level.map(Value::from),
            _ => [&self.extra, &self.metadata].into_iter().find_map(|more| more.as_ref()?.get(name).cloned()),
        }
    }
}

/// A reading to be stored.
#[derive(Debug, Clone, PartialEq)]
pub struct NewReading {
    pub home: HomeId,
    pub device: DeviceId,
    /// Effective time of the reading.
    pub recorded_at: DateTime<Utc>,
    /// Time of receipt from the broker.
    pub received_at: DateTime<Utc>,
    pub time_source: TimeSource,
    /// With `device` and `recorded_at` the primary key, so that a resend is stored once.
    pub dedup: i64,
    /// Where it was parsed: a batch moves its readings.
    pub measurement: Box<Measurement>,
}
