//! Parses the payloads of devices, see docs/device-protocol.md. Ambiguous messages are rejected; a single bad value
//! is dropped and never costs the others.

mod answer;
mod status;
mod telemetry;

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};

use super::json::{self, Budget, Keys, Object};
use super::rejection::Rejection;
use super::topic::MessageKind;
use crate::commands::AnswerKind;
use crate::device_config::ConfigAnswerKind;
use crate::devices::{Report, StatusReport};
use crate::ids::CommandId;
use crate::telemetry::Measurement;

/// The largest payload of a message; a larger one is rejected. The packets that the parties accept must be larger than
/// this: `MAX_PACKET` in `options.rs`, `MAX_PACKET_BYTES` in `dev/broker.rs` and `simulator/client.rs`, and
/// `message_size_limit` and `max_packet_size` in `docker/mosquitto/conf.d/limits.conf`.
pub const MAX_PAYLOAD_BYTES: usize = 64 * 1024;
/// The largest answer to a command or a configuration: its result is stored with the command.
const MAX_ANSWER_BYTES: usize = 16 * 1024;
/// Bytes of a firmware version.
const MAX_VERSION: usize = 64;

/// The content of a message.
#[derive(Debug, Clone, PartialEq)]
pub enum Content {
    Telemetry {
        /// The time by the device's clock, where it is plausible.
        timestamp: Option<DateTime<Utc>>,
        measurement: Box<Measurement>,
        /// Values of the message that could not be stored.
        n_dropped: usize,
    },
    /// Presence, health and state.
    Status(Box<StatusReport>),
    Heartbeat(Report),
    CommandAnswer(CommandId, AnswerKind),
    /// The version and its outcome.
    ConfigAnswer(i32, ConfigAnswerKind),
}

impl Content {
    /// The approximate memory of the parsed JSON values.
    pub(super) fn memory_bytes(&self) -> usize {
        let values = match self {
            Self::Telemetry { measurement, .. } => [measurement.extra.as_ref(), measurement.metadata.as_ref()],
            Self::Status(status) => [Some(&status.last_status), status.state.as_ref()],
            Self::CommandAnswer(_, AnswerKind::Succeeded { result } | AnswerKind::Failed { result, .. }) => {
                [result.as_ref(), None]
            }
            Self::ConfigAnswer(_, ConfigAnswerKind::Rejected { errors }) => [errors.as_ref(), None],
            Self::Heartbeat(_) | Self::CommandAnswer(..) | Self::ConfigAnswer(..) => [None, None],
        };
        values.into_iter().flatten().map(json::memory_bytes).sum()
    }
}

/// Parses a payload that was received at `now`.
pub fn parse(kind: MessageKind, payload: &[u8], now: DateTime<Utc>) -> Result<Content, Rejection> {
    if payload.len() > MAX_PAYLOAD_BYTES {
        return Err(Rejection::TooLarge);
    }
    // Some firmware sends the terminator of its C string, or the rest of its buffer.
    let n_nul = payload.iter().rev().take_while(|byte| **byte == 0).count();
    let text = std::str::from_utf8(&payload[..payload.len() - n_nul]).map_err(|_| Rejection::NotUtf8)?;
    let keys = keys(kind);
    let repaired;
    let (object, n_nan) = match Object::parse_nested(text, keys) {
        Some(object) => (object, 0),
        None if serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok() => return Err(Rejection::BadShape),
        None => {
            repaired = json::without_nan(text).ok_or(Rejection::BadJson)?;
            (Object::parse_nested(&repaired.0, keys).ok_or(Rejection::BadJson)?, repaired.1)
        }
    };
    if object.has_duplicate {
        return Err(Rejection::DuplicateKey);
    }
    match kind {
        MessageKind::Telemetry => telemetry::read(&object, n_nan, now),
        MessageKind::Status => status::read(&object, now),
        MessageKind::Heartbeat => Ok(Content::Heartbeat(Report {
            signal_strength: object.get("wifiSignal").and_then(json::number),
            ..Report::default()
        })),
        MessageKind::Ack if payload.len() > MAX_ANSWER_BYTES => Err(Rejection::TooLarge),
        MessageKind::Ack => answer::read(&object),
    }
}

/// The fields of a message that have a meaning.
fn keys(kind: MessageKind) -> Keys {
    match kind {
        MessageKind::Telemetry => telemetry::KEYS,
        MessageKind::Status => Keys::flat(status::is_field),
        MessageKind::Heartbeat => Keys::flat(|name| name == "wifiSignal"),
        MessageKind::Ack => Keys::flat(answer::is_field),
    }
}

/// Inserts an unknown value under its name; false where it can't be stored.
fn insert_bounded(map: &mut Map<String, Value>, name: &str, raw: &str, budget: &mut Budget) -> bool {
    let value = if json::is_storable_key(name) { json::value(raw, budget) } else { None };
    value.map(|value| map.insert(name.to_owned(), value)).is_some()
}

/// The fields that [`read_health`] reads.
fn is_health(name: &str) -> bool {
    matches!(name, "firmwareVersion" | "signalStrength" | "wifiSignal" | "batteryLevel")
}

/// Reads a health field of telemetry's metadata or of a status; false for another name or a wrong type.
fn read_health(report: &mut Report, name: &str, raw: &str) -> bool {
    match name {
        "firmwareVersion" => {
            report.firmware_version = json::short_text(raw, MAX_VERSION);
            report.firmware_version.is_some()
        }
        "signalStrength" | "wifiSignal" => {
            report.signal_strength = json::number(raw);
            report.signal_strength.is_some()
        }
        "batteryLevel" => {
            report.battery_level = json::number(raw);
            report.battery_level.is_some()
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests;
