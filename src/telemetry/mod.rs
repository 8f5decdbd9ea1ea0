//! Readings: one row per telemetry message, seen by subscribers only after its commit.

mod feed;
pub mod history;
mod hub;
mod read_store;
mod record_store;

use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde_json::Value;

use crate::db::{JsonText, MemorySize};
use crate::devices::Report;
use crate::ids::{DeviceId, HomeId, TelemetryId};

pub use feed::LiveReadings;
pub use hub::ReadingHub;
pub use record_store::{Month, ensure_month, find_committed, insert, last_cursor};

/// A committed reading, shared by all its subscribers.
pub type SharedReading = Arc<Reading>;

/// Whose clock gave [`Reading::recorded_at`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeSource {
    /// The device's.
    Device,
    /// Ours: the time of receipt.
    Server,
}

/// One telemetry message as it was committed.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    /// Opaque cursor in the order of commits.
    pub id: TelemetryId,
    /// The home it belongs to.
    pub home: HomeId,
    /// The device that spoke.
    pub device: DeviceId,
    /// Effective time of the reading.
    pub recorded_at: DateTime<Utc>,
    /// When we took it from the broker.
    pub received_at: DateTime<Utc>,
    /// Whose clock gave `recorded_at`.
    pub time_source: TimeSource,
    /// The seed's thirteen readings.
    pub sensors: Sensors,
    /// Readings the schema does not know, as a JSON object.
    pub extra: Option<JsonText>,
    /// Firmware that sent it.
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

/// The seed's thirteen readings; one the device did not send is `None`, never 0 or false.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sensors {
    /// As the seed names it; ampere on its boards.
    pub current: Option<f64>,
    /// Gas concentration in ppm.
    pub gas_ppm: Option<f64>,
    /// Whether a flame is seen.
    pub flame: Option<bool>,
    /// Fill level of a bin in percent.
    pub bin_level: Option<f64>,
    /// Active power in watts.
    pub power_w: Option<f64>,
    /// Energy counter in kWh.
    pub energy_kwh: Option<f64>,
    /// Volts.
    pub voltage_v: Option<f64>,
    /// Amperes.
    pub current_a: Option<f64>,
    /// Hertz.
    pub frequency_hz: Option<f64>,
    /// 0 to 1.
    pub power_factor: Option<f64>,
    /// Centimetres.
    pub distance_cm: Option<f64>,
    /// Degrees Celsius.
    pub temperature: Option<f64>,
    /// Relative humidity in percent.
    pub humidity: Option<f64>,
}

/// What one telemetry message says, before it is a row.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Measurement {
    /// The seed's readings.
    pub sensors: Sensors,
    /// Firmware, signal and battery.
    pub report: Report,
    /// Readings the schema does not know, as a JSON object.
    pub extra: Option<Value>,
    /// What else the message says of itself, as a JSON object.
    pub metadata: Option<Value>,
}

impl Measurement {
    /// One value by the name it has on the wire; `None` where the message does not say.
    pub fn value(&self, name: &str) -> Option<Value> {
        let (sensors, report) = (&self.sensors, &self.report);
        let number = match name {
            "flame" => return sensors.flame.map(Value::from),
            "firmwareVersion" => return report.firmware_version.clone().map(Value::from),
            "current" => sensors.current,
            "gasPpm" => sensors.gas_ppm,
            "binLevel" => sensors.bin_level,
            "powerW" => sensors.power_w,
            "energyKwh" => sensors.energy_kwh,
            "voltageV" => sensors.voltage_v,
            "currentA" => sensors.current_a,
            "frequencyHz" => sensors.frequency_hz,
            "powerFactor" => sensors.power_factor,
            "distanceCm" => sensors.distance_cm,
            "temperature" => sensors.temperature,
            "humidity" => sensors.humidity,
            "signalStrength" | "wifiSignal" => report.signal_strength,
            "batteryLevel" => report.battery_level,
            _ => return [&self.extra, &self.metadata].into_iter().find_map(|more| more.as_ref()?.get(name).cloned()),
        };
        number.map(Value::from)
    }
}

/// A reading that is to be recorded.
#[derive(Debug, Clone, PartialEq)]
pub struct NewReading {
    /// The home it belongs to.
    pub home: HomeId,
    /// The device that spoke.
    pub device: DeviceId,
    /// Effective time of the reading.
    pub recorded_at: DateTime<Utc>,
    /// When we took it from the broker.
    pub received_at: DateTime<Utc>,
    /// Whose clock gave `recorded_at`.
    pub time_source: TimeSource,
    /// With device and `recorded_at` the key that makes a resend harmless.
    pub dedup: i64,
    /// What it says.
    pub measurement: Measurement,
}
