//! One virtual ESP32: its topics, payloads and answers, as docs/device-protocol.md has them. It has no socket and no
//! clock of its own.

use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;
use serde_json::{Map, Value};

use super::actuator::{Ack, Actuator, Effect};
use super::answers::AnswerPlanner;
use super::command_events::SentAnswer;
use super::faults::{ClockError, FaultInjector};
use super::sensors::{Board, Readings};

const FIRMWARE: &str = "v2.1.0";
/// The broker publishes it when a device disconnects without a DISCONNECT.
pub(crate) const LAST_WILL: &str = r#"{"online": false}"#;

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
    #[serde(flatten)]
    outputs: &'a Map<String, Value>,
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

/// A command, and the answers to send.
pub(crate) struct PlannedCommand {
    pub(crate) id: String,
    pub(crate) expires_at: Option<DateTime<Utc>>,
    pub(crate) answers: Vec<Answer>,
}

/// An answer to a command or a configuration.
pub(crate) struct Answer {
    /// Time from the receipt to the answer.
    pub(crate) delay: Duration,
    /// `None` for the answer to a configuration.
    pub(crate) kind: Option<SentAnswer>,
    pub(crate) content: AnswerContent,
}

#[derive(Clone)]
pub(crate) enum AnswerContent {
    /// An `ack` message.
    Ack(Vec<u8>),
    /// The final answer to a command, as an `ack` message. A status with the outputs follows if they have changed.
    Outcome(Vec<u8>),
    /// A status message that shows the effect.
    Status(Effect),
}

pub(crate) struct Device {
    pub(crate) topics: Topics,
    pub(crate) faults: FaultInjector,
    /// Its number in the fleet.
    pub(crate) number: usize,
    answer_planner: AnswerPlanner,
    /// The outputs in its status.
    outputs: Map<String, Value>,
    key: String,
    board: Board,
    actuator: Actuator,
    clock_error: ClockError,
    booted: DateTime<Utc>,
}

impl Device {
    /// Device `number` of the fleet, booted at `now`.
    pub(crate) fn new(config: &super::FleetConfig, number: usize, now: DateTime<Utc>) -> Self {
        let (device, index) = (&config.devices[number], u64::try_from(number).expect("a usize fits"));
        let mut faults = FaultInjector::new(config.faults, config.seed, index);
        let actuator = Actuator::default();
        Self {
            number,
            answer_planner: AnswerPlanner::new(config.answers, config.seed, index),
            // Firmware that shows effects shows what was set, and nothing before that.
            outputs: if config.answers.effect { Map::new() } else { actuator.outputs() },
            topics: Topics::new(&config.prefix, &config.home, &device.key),
            key: device.key.clone(),
            board: Board::new(config.seed, index),
            actuator,
            clock_error: faults.clock_error(),
            booted: now,
            faults,
        }
    }

    /// The next telemetry message, `interval` after the previous one.
    pub(crate) fn telemetry(&mut self, now: DateTime<Utc>, interval: Duration) -> Vec<u8> {
        json(&Telemetry {
            timestamp: self.timestamp(now),
            sensors: self.board.measure(interval),
            metadata: Metadata {
                firmware_version: FIRMWARE,
                signal_strength: self.board.signal(),
                battery_level: self.board.battery(),
                free_memory: self.board.free_memory(),
            },
            device_id: &self.key,
        })
    }

    /// The status message after a connect (`online`) or before a disconnect.
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
                outputs: &self.outputs,
            },
            errors: [],
        })
    }

    pub(crate) fn heartbeat(&self, now: DateTime<Utc>) -> Vec<u8> {
        json(&Heartbeat {
            timestamp: self.timestamp(now),
            device_id: &self.key,
            uptime: self.uptime_ms(now) / 1000,
            free_memory: self.board.free_memory(),
            wifi_signal: self.board.signal(),
        })
    }

    /// Executes a command; `None` for a payload that is not a command.
    pub(crate) fn on_command(&mut self, payload: &[u8], now: DateTime<Utc>) -> Option<PlannedCommand> {
        let plan = self.answer_planner.for_command();
        let executed = self.actuator.execute(payload, now, plan.refuses)?;
        self.board.set_power(self.actuator.is_on());
        if self.actuator.take_restart() {
            self.booted = now;
            self.clock_error = self.faults.clock_error();
        }
        let kind = if executed.outcome.is_success() { SentAnswer::Succeeded } else { SentAnswer::Failed };
        let shows_effects = self.answer_planner.shows_effects();
        let last = if shows_effects {
            executed.effect.map(|effect| (SentAnswer::Effect, AnswerContent::Status(effect)))
        } else {
            Some((kind, AnswerContent::Outcome(json(&executed.outcome))))
        };
        let mut answers = Vec::new();
        if !plan.is_silent {
            if plan.acks && !shows_effects {
                let content = AnswerContent::Ack(json(&Ack::received(&executed.command_id)));
                answers.push(Answer { delay: Duration::ZERO, kind: Some(SentAnswer::Acked), content });
            }
            if let Some((kind, content)) = last {
                let answer = |delay: &Duration| Answer { delay: *delay, kind: Some(kind), content: content.clone() };
                answers.extend(plan.delays.iter().map(answer));
            }
        }
        Some(PlannedCommand { id: executed.command_id, expires_at: executed.expires_at, answers })
    }

    /// The answers to a pushed configuration; none for one without a version.
    pub(crate) fn on_config(&mut self, payload: &[u8]) -> Vec<Answer> {
        let plan = self.answer_planner.for_config();
        let Some(ack) = self.actuator.configure(payload, plan.refuses) else { return Vec::new() };
        if plan.is_silent || self.answer_planner.shows_effects() {
            return Vec::new();
        }
        let content = AnswerContent::Ack(json(&ack));
        let answer = |delay: &Duration| Answer { delay: *delay, kind: None, content: content.clone() };
        plan.delays.iter().map(answer).collect()
    }

    /// Topic and payload of an answer that is due.
    pub(crate) fn render(&mut self, content: AnswerContent, now: DateTime<Utc>) -> (&str, Vec<u8>) {
        match content {
            AnswerContent::Ack(payload) | AnswerContent::Outcome(payload) => return (&self.topics.ack, payload),
            AnswerContent::Status(Effect::Set(outputs)) => self.outputs.extend(outputs),
            AnswerContent::Status(Effect::Cleared) => self.outputs.clear(),
        }
        let payload = self.status(now, true);
        (&self.topics.status, payload)
    }

    /// Takes the present outputs into the status; returns whether they have changed.
    pub(crate) fn update_outputs(&mut self) -> bool {
        let outputs = self.actuator.outputs();
        let has_changed = self.outputs != outputs;
        self.outputs = outputs;
        has_changed
    }

    /// The configured time between readings.
    pub(crate) fn sample_rate(&self) -> Option<Duration> {
        self.actuator.sample_rate()
    }

    fn uptime_ms(&self, now: DateTime<Utc>) -> i64 {
        (now - self.booted).num_milliseconds().max(0)
    }

    fn timestamp(&self, now: DateTime<Utc>) -> String {
        self.clock_error.apply(now, self.booted).to_rfc3339_opts(SecondsFormat::Millis, true)
    }
}

fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("plain structs serialise")
}
