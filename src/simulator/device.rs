//! One virtual ESP32: its topics, its payloads, its answers. Pure: no socket, no clock of its own.
//!
//! What it sends is the seed's wire format to the letter; what it answers is the contract's `ack`.

use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;
use serde_json::{Map, Value};

use super::actuator::{Ack, Actuator, Effect};
use super::answers::AnswerDice;
use super::config::Timekeeping;
use super::faults::{Dice, WrongClock};
use super::receipts::Said;
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
    status: StatusBody<'a>,
    errors: [&'static str; 0],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct StatusBody<'a> {
    uptime: i64,
    free_memory: i64,
    wifi_signal: i64,
    battery_level: i64,
    firmware_version: &'static str,
    /// Outputs, where the device shows them.
    #[serde(flatten)]
    shown: &'a Map<String, Value>,
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

/// A command that a device read, and what it will say to it.
pub(crate) struct Command {
    pub(crate) id: String,
    pub(crate) expires_at: Option<DateTime<Utc>>,
    pub(crate) answers: Vec<Answer>,
}

/// One thing a device says to a command or a configuration.
pub(crate) struct Answer {
    /// How long after it was received.
    pub(crate) after: Duration,
    /// How it stands in the receipt of a command.
    pub(crate) said: Option<Said>,
    pub(crate) words: Words,
}

/// What is said.
#[derive(Clone)]
pub(crate) enum Words {
    /// An `ack` message.
    Ack(Vec<u8>),
    /// A status message that shows what was done.
    Show(Effect),
}

/// One virtual device.
pub(crate) struct Device {
    pub(crate) topics: Topics,
    pub(crate) dice: Dice,
    /// Its number in the fleet.
    pub(crate) number: usize,
    answer_dice: AnswerDice,
    /// Outputs as its status tells them; empty where it answers instead.
    shown: Map<String, Value>,
    key: String,
    board: Board,
    actuator: Actuator,
    timekeeping: Timekeeping,
    wrong_clock: WrongClock,
    booted: DateTime<Utc>,
}

impl Device {
    /// Device `number` of the fleet, booted at `now`.
    pub(crate) fn new(config: &super::FleetConfig, number: usize, now: DateTime<Utc>) -> Self {
        let (device, index) = (&config.devices[number], u64::try_from(number).expect("a usize fits"));
        let mut dice = Dice::new(config.faults, config.seed, index);
        Self {
            number,
            answer_dice: AnswerDice::new(config.answers, config.seed, index),
            shown: Map::new(),
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
                shown: &self.shown,
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

    /// Carries out a command; `None` for what can't be read as one.
    pub(crate) fn on_command(&mut self, payload: &[u8], now: DateTime<Utc>) -> Option<Command> {
        let manner = self.answer_dice.command();
        let done = self.actuator.command(payload, now, manner.fails)?;
        self.board.set_power(self.actuator.is_on());
        if self.actuator.take_restart() {
            self.booted = now;
            self.wrong_clock = self.dice.clock();
        }
        let said = if done.outcome.has_succeeded() { Said::Succeeded } else { Said::Failed };
        let last = if self.answer_dice.shows() {
            done.effect.map(|effect| (Said::Shown, Words::Show(effect)))
        } else {
            Some((said, Words::Ack(json(&done.outcome))))
        };
        let mut answers = Vec::new();
        if !manner.silent {
            if manner.acks && !self.answer_dice.shows() {
                let words = Words::Ack(json(&Ack::received(&done.command_id)));
                answers.push(Answer { after: Duration::ZERO, said: Some(Said::Acked), words });
            }
            if let Some((said, words)) = last {
                let again = |after: &Duration| Answer { after: *after, said: Some(said), words: words.clone() };
                answers.extend(manner.after.iter().map(again));
            }
        }
        Some(Command { id: done.command_id, expires_at: done.expires_at, answers })
    }

    /// The answers to a pushed configuration, if it has a version to answer for.
    pub(crate) fn on_config(&mut self, payload: &[u8]) -> Vec<Answer> {
        let manner = self.answer_dice.config();
        let Some(ack) = self.actuator.configure(payload, manner.fails) else { return Vec::new() };
        if manner.silent || self.answer_dice.shows() {
            return Vec::new();
        }
        let words = Words::Ack(json(&ack));
        let again = |after: &Duration| Answer { after: *after, said: None, words: words.clone() };
        manner.after.iter().map(again).collect()
    }

    /// What goes out when an answer is due: topic and payload.
    pub(crate) fn say(&mut self, words: Words, now: DateTime<Utc>) -> (&str, Vec<u8>) {
        match words {
            Words::Ack(payload) => return (&self.topics.ack, payload),
            Words::Show(Effect::Set(outputs)) => self.shown.extend(outputs),
            Words::Show(Effect::Cleared) => self.shown.clear(),
        }
        let payload = self.status(now, true);
        (&self.topics.status, payload)
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
