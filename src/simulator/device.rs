//! One virtual ESP32: its topics, its payloads, its answers. Pure: no socket, no clock of its own.
//!
//! What it sends is the seed's wire format to the letter; what it answers is the contract's `ack`.

use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;

use super::actuator::Actuator;
use super::config::{Timekeeping, VirtualDevice};
use super::faults::{Dice, WrongClock};
use super::sensors::{Board, Readings};

const FIRMWARE: &str = "v2.1.0";
/// What the broker says for a device that vanished.
pub(crate) const LAST_WILL: &str = r#"{"online": false}"#;

/// The topics of one device.
#[derive(Debug, Clone)]
pub(crate) struct Topics {
    pub(crate) telemetry: String,
    pub(crate) status: String,
    pub(crate) heartbeat: String,
    pub(crate) ack: String,
    pub(crate) commands: String,
    pub(crate) config: String,
}

impl Topics {
    fn new(prefix: &str, home: &str, device: &str) -> Self {
        let topic = |kind: &str| format!("{prefix}/{home}/{device}/{kind}");
        Self {
            telemetry: topic("telemetry"),
            status: topic("status"),
            heartbeat: topic("heartbeat"),
            ack: topic("ack"),
            commands: topic("commands"),
            config: topic("config"),
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Telemetry<'a> {
    timestamp: String,
    device_id: &'a str,
    sensors: Readings,
    metadata: Metadata,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    firmware_version: &'static str,
    signal_strength: i64,
    battery_level: i64,
    free_memory: i64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Status<'a> {
    timestamp: String,
    device_id: &'a str,
    online: bool,
    status: StatusBody,
    errors: [&'static str; 0],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct StatusBody {
    uptime: i64,
    free_memory: i64,
    wifi_signal: i64,
    battery_level: i64,
    firmware_version: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Heartbeat<'a> {
    timestamp: String,
    device_id: &'a str,
    uptime: i64,
    free_memory: i64,
    wifi_signal: i64,
}

/// One virtual device.
pub(crate) struct Device {
    pub(crate) topics: Topics,
    pub(crate) dice: Dice,
    key: String,
    board: Board,
    actuator: Actuator,
    timekeeping: Timekeeping,
    wrong_clock: WrongClock,
    booted: DateTime<Utc>,
}

impl Device {
    /// Number `index` of the fleet, booted at `now`.
    pub(crate) fn new(config: &super::FleetConfig, index: u64, device: &VirtualDevice, now: DateTime<Utc>) -> Self {
        let mut dice = Dice::new(config.faults, config.seed, index);
        Self {
            topics: Topics::new(&config.prefix, &config.home, &device.key),
            key: device.key.clone(),
            board: Board::new(config.seed, index),
            actuator: Actuator::default(),
            timekeeping: config.timekeeping,
            wrong_clock: dice.clock(),
            booted: now,
            dice,
        }
    }

    /// The next telemetry message, `interval` after the one before.
    pub(crate) fn telemetry(&mut self, now: DateTime<Utc>, interval: Duration, seq: Option<u64>) -> Vec<u8> {
        json(&Telemetry {
            timestamp: self.timestamp(now),
            sensors: self.board.measure(interval, seq),
            metadata: Metadata {
                firmware_version: FIRMWARE,
                signal_strength: self.board.signal(),
                battery_level: self.board.battery(),
                free_memory: self.board.free_memory(),
            },
            device_id: &self.key,
        })
    }

    /// The status message of a connect (`online`) or of a planned goodbye.
    pub(crate) fn status(&self, now: DateTime<Utc>, online: bool) -> Vec<u8> {
        json(&Status {
            timestamp: self.timestamp(now),
            device_id: &self.key,
            online,
            status: StatusBody {
                uptime: self.uptime_ms(now) / 1000,
                free_memory: self.board.free_memory(),
                wifi_signal: self.board.signal(),
                battery_level: self.board.battery(),
                firmware_version: FIRMWARE,
            },
            errors: [],
        })
    }

    /// The sign of life between readings.
    pub(crate) fn heartbeat(&self, now: DateTime<Utc>) -> Vec<u8> {
        json(&Heartbeat {
            timestamp: self.timestamp(now),
            device_id: &self.key,
            uptime: self.uptime_ms(now) / 1000,
            free_memory: self.board.free_memory(),
            wifi_signal: self.board.signal(),
        })
    }

    /// The answers to a command, in order.
    pub(crate) fn on_command(&mut self, payload: &[u8], now: DateTime<Utc>) -> Vec<Vec<u8>> {
        let answers = self.actuator.command(payload, now);
        self.board.set_power(self.actuator.is_on());
        if self.actuator.take_restart() {
            self.booted = now;
            self.wrong_clock = self.dice.clock();
        }
        answers.iter().map(json).collect()
    }

    /// The answer to a pushed configuration, if it has a version to answer for.
    pub(crate) fn on_config(&mut self, payload: &[u8]) -> Option<Vec<u8>> {
        self.actuator.configure(payload).as_ref().map(json)
    }

    /// How often it reports, where a pushed configuration says so.
    pub(crate) fn sample_rate(&self) -> Option<Duration> {
        self.actuator.sample_rate()
    }

    fn uptime_ms(&self, now: DateTime<Utc>) -> i64 {
        (now - self.booted).num_milliseconds().max(0)
    }

    fn timestamp(&self, now: DateTime<Utc>) -> String {
        match self.timekeeping {
            Timekeeping::Device => self.wrong_clock.read(now, self.booted).to_rfc3339_opts(SecondsFormat::Millis, true),
            // `String(millis())`, as the seed's sketch has it.
            Timekeeping::None => self.uptime_ms(now).to_string(),
        }
    }
}

fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("plain structs serialise")
}
