//! Parses the payloads of devices, see docs/device-protocol.md. Ambiguous messages are rejected; a single bad value
//! is dropped and never costs the others.

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};

use super::json::{self, Budget, Object};
use super::rejection::Rejection;
use super::timestamp;
use super::topic::MessageKind;
use crate::commands::AnswerKind;
use crate::device_config::ConfigAnswerKind;
use crate::devices::{Report, StatusReport};
use crate::ids::CommandId;
use crate::telemetry::{Measurement, Sensors, for_each_sensor};

/// The largest payload of a message; a larger one is rejected. The packets that the parties accept must be larger than
/// this: `MAX_PACKET` in `options.rs`, `MAX_PACKET_BYTES` in `dev/broker.rs` and `simulator/client.rs`, and
/// `message_size_limit` and `max_packet_size` in `docker/mosquitto/conf.d/limits.conf`.
pub const MAX_PAYLOAD_BYTES: usize = 64 * 1024;
/// The largest answer to a command or a configuration: its result is stored with the command.
const MAX_ANSWER_BYTES: usize = 16 * 1024;
/// Characters of a device's error text that are stored.
const MAX_REASON: usize = 1_000;
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
    /// Presence and health.
    Status(StatusReport),
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
            Self::Status(status) => [Some(&status.last_status), None],
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
    let is_known = known_fields(kind);
    let repaired;
    let (object, n_nan) = match Object::parse(text, is_known) {
        Some(object) => (object, 0),
        None if serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok() => return Err(Rejection::BadShape),
        None => {
            repaired = json::without_nan(text).ok_or(Rejection::BadJson)?;
            (Object::parse(&repaired.0, is_known).ok_or(Rejection::BadJson)?, repaired.1)
        }
    };
    if object.has_duplicate {
        return Err(Rejection::DuplicateKey);
    }
    match kind {
        MessageKind::Telemetry => telemetry(&object, n_nan, now),
        MessageKind::Status => status(&object),
        MessageKind::Heartbeat => Ok(Content::Heartbeat(Report {
            signal_strength: object.get("wifiSignal").and_then(json::number),
            ..Report::default()
        })),
        MessageKind::Ack if payload.len() > MAX_ANSWER_BYTES => Err(Rejection::TooLarge),
        MessageKind::Ack => ack(&object),
    }
}

/// The fields of a message that have a meaning.
fn known_fields(kind: MessageKind) -> fn(&str) -> bool {
    match kind {
        MessageKind::Telemetry => |name| matches!(name, "timestamp" | "deviceId" | "sensors" | "metadata"),
        MessageKind::Status => |name| matches!(name, "online" | "status"),
        MessageKind::Heartbeat => |name| name == "wifiSignal",
        MessageKind::Ack => {
            |name| matches!(name, "commandId" | "configVersion" | "version" | "status" | "result" | "error" | "errors")
        }
    }
}

/// An answer names either a command or a version of the configuration, as `configVersion` or as the configuration itself
/// does, `version`.
fn ack(object: &Object<'_>) -> Result<Content, Rejection> {
    let field = |name| object.get(name).filter(|raw| *raw != "null");
    let value = |name| field(name).and_then(|raw| json::value(raw, &mut Budget::default()));
    let status = field("status").and_then(|raw| json::short_text(raw, 16)).ok_or(Rejection::BadShape)?;
    match (field("commandId"), field("configVersion").or_else(|| field("version"))) {
        (Some(id), None) => {
            let id = json::short_text(id, 256).ok_or(Rejection::BadShape)?;
            let result = value("result");
            let kind = match status.as_str() {
                "ACKED" => AnswerKind::Acked,
                "SUCCEEDED" => AnswerKind::Succeeded { result },
                "FAILED" => AnswerKind::Failed { error: field("error").map(reason), result },
                _ => return Err(Rejection::BadShape),
            };
            // An id of another form was never sent: perhaps somebody's own test command.
            Ok(Content::CommandAnswer(id.parse().map_err(|_| Rejection::UnknownCommand)?, kind))
        }
        (None, Some(version)) => {
            let version = version.parse().ok().filter(|version| *version > 0).ok_or(Rejection::BadShape)?;
            let kind = match status.as_str() {
                "APPLIED" => ConfigAnswerKind::Applied,
                "REJECTED" => ConfigAnswerKind::Rejected { errors: value("errors") },
                _ => return Err(Rejection::BadShape),
            };
            Ok(Content::ConfigAnswer(version, kind))
        }
        _ => Err(Rejection::BadShape),
    }
}

/// A device's error text, shortened and without control characters. A value that is no text stays JSON.
fn reason(raw: &str) -> String {
    let text = serde_json::from_str(raw).unwrap_or_else(|_| raw.to_owned());
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_REASON).collect()
}

fn telemetry(object: &Object<'_>, n_nan: usize, now: DateTime<Utc>) -> Result<Content, Rejection> {
    let sensors = object.get("sensors").and_then(|raw| Object::parse(raw, is_sensor)).ok_or(Rejection::BadShape)?;
    if sensors.has_duplicate {
        return Err(Rejection::DuplicateKey);
    }
    let mut n_dropped = n_nan + sensors.n_skipped + object.n_skipped;
    let mut measurement = Measurement::default();
    let (mut budget, mut extra) = (Budget::default(), Map::new());
    for (name, raw) in sensors.iter() {
        if raw == "null" || read_sensor(&mut measurement.sensors, name, raw) {
            continue;
        }
        n_dropped += usize::from(!insert_bounded(&mut extra, name, raw, &mut budget));
    }
    let mut metadata = Map::new();
    if let Some(raw) = object.get("metadata").filter(|raw| *raw != "null") {
        let Some(fields) = Object::parse(raw, is_health) else { return Err(Rejection::BadShape) };
        if fields.has_duplicate {
            return Err(Rejection::DuplicateKey);
        }
        n_dropped += fields.n_skipped;
        for (name, raw) in fields.iter().filter(|(_, raw)| *raw != "null") {
            if !read_health(&mut measurement.report, name, raw) {
                n_dropped += usize::from(!insert_bounded(&mut metadata, name, raw, &mut budget));
            }
        }
    }
    // Further fields of the message, such as a sequence number.
    for (name, raw) in object.iter() {
        let is_known = matches!(name, "timestamp" | "deviceId" | "sensors" | "metadata");
        if !is_known && raw != "null" && !metadata.contains_key(name) {
            n_dropped += usize::from(!insert_bounded(&mut metadata, name, raw, &mut budget));
        }
    }
    measurement.extra = (!extra.is_empty()).then_some(Value::Object(extra));
    measurement.metadata = (!metadata.is_empty()).then_some(Value::Object(metadata));
    let timestamp = object.get("timestamp").and_then(|raw| timestamp::parse(raw, now));
    Ok(Content::Telemetry { timestamp, measurement: Box::new(measurement), n_dropped })
}

fn status(object: &Object<'_>) -> Result<Content, Rejection> {
    // Strictly a boolean: a text such as "false" is not taken for true.
    let online = object.get("online").and_then(json::boolean).ok_or(Rejection::BadShape)?;
    let mut report = Report::default();
    if let Some(fields) = object.get("status").and_then(|raw| Object::parse(raw, is_health)) {
        for (name, raw) in fields.iter() {
            read_health(&mut report, name, raw);
        }
    }
    let (mut budget, mut last_status) = (Budget::default(), Map::new());
    for (name, raw) in object.iter() {
        insert_bounded(&mut last_status, name, raw, &mut budget);
    }
    Ok(Content::Status(StatusReport { online, report, last_status: Value::Object(last_status) }))
}

/// Inserts an unknown value under its name; false where it can't be stored.
fn insert_bounded(map: &mut Map<String, Value>, name: &str, raw: &str, budget: &mut Budget) -> bool {
    let value = if json::is_storable_key(name) { json::value(raw, budget) } else { None };
    value.map(|value| map.insert(name.to_owned(), value)).is_some()
}

/// A sensor's value in a message.
trait SensorValue: Sized {
    fn read(raw: &str) -> Option<Self>;
}

impl SensorValue for f64 {
    fn read(raw: &str) -> Option<Self> {
        json::number(raw)
    }
}

impl SensorValue for bool {
    fn read(raw: &str) -> Option<Self> {
        json::boolean(raw)
    }
}

macro_rules! define_read_sensor {
    ($($(#[$doc:meta])* $field:ident: $type:ty = $name:literal,)*) => {
        /// Reads the value of a known sensor; false for another name or a wrong type.
        fn read_sensor(sensors: &mut Sensors, name: &str, raw: &str) -> bool {
            match name {
                $($name => {
                    sensors.$field = <$type as SensorValue>::read(raw);
                    sensors.$field.is_some()
                })*
                _ => false,
            }
        }

        fn is_sensor(name: &str) -> bool {
            matches!(name, $($name)|*)
        }
    };
}
for_each_sensor!(define_read_sensor);

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
mod tests {
    use super::*;
    use serde_json::json;

    fn now() -> DateTime<Utc> {
        "2026-02-13T12:00:01Z".parse().unwrap()
    }

    fn read(text: &str) -> (Option<DateTime<Utc>>, Measurement, usize) {
        match parse(MessageKind::Telemetry, text.as_bytes(), now()) {
            Ok(Content::Telemetry { timestamp, measurement, n_dropped }) => (timestamp, *measurement, n_dropped),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn telemetry_of_the_protocol_document_is_read_completely() {
        let (timestamp, m, n_dropped) = read(
            r#"{"timestamp":"2026-02-13T12:00:00.000Z","deviceId":"ESP32_001","sensors":{"current":0.75,"gasPpm":450,
            "flame":false,"binLevel":45.2,"powerW":120.5,"energyKwh":2.45,"voltageV":220.3,"currentA":0.55,
            "frequencyHz":50.1,"powerFactor":0.95,"distanceCm":15.2,"temperature":23.5,"humidity":65.2},
            "metadata":{"firmwareVersion":"v2.1.0","signalStrength":-45,"batteryLevel":85,"freeMemory":45000}}"#,
        );
        assert_eq!(timestamp, Some("2026-02-13T12:00:00Z".parse().unwrap()));
        assert_eq!((m.sensors.gas_ppm, m.sensors.flame, m.sensors.humidity), (Some(450.0), Some(false), Some(65.2)));
        assert_eq!(m.report.firmware_version.as_deref(), Some("v2.1.0"));
        assert_eq!((m.report.signal_strength, m.report.battery_level), (Some(-45.0), Some(85.0)));
        assert_eq!((m.extra, m.metadata, n_dropped), (None, Some(json!({"freeMemory": 45000})), 0));
    }

    #[test]
    fn one_bad_reading_never_costs_the_others() {
        let (_, m, n_dropped) = read(
            r#"{"seq":7,"sensors":{"temperature":"NaN","humidity":61,"flame":1,"powerW":1e999,"current":null,"co2":612,
            "note":"a\u0000b"}}"#,
        );
        assert_eq!((m.sensors.temperature, m.sensors.humidity, m.sensors.flame), (None, Some(61.0), None));
        assert_eq!(m.extra, Some(json!({"temperature": "NaN", "flame": 1, "co2": 612})));
        assert_eq!(m.metadata, Some(json!({"seq": 7})));
        assert_eq!(n_dropped, 2);
    }

    #[test]
    fn known_names_are_read_wherever_they_stand() {
        let many = (0..70).map(|i| format!(r#""k{i}":{i},"#)).collect::<String>();
        let (timestamp, m, n_dropped) = read(&format!(
            r#"{{{many}"metadata":{{{many}"firmwareVersion":"v2"}},"sensors":{{{many}"temperature":21.5}},
            "timestamp":"2026-02-13T12:00:00Z"}}"#
        ));
        assert!(timestamp.is_some());
        assert_eq!((m.sensors.temperature, m.report.firmware_version.as_deref()), (Some(21.5), Some("v2")));
        assert_eq!(n_dropped, 18, "6 of each object are counted");
        let status = format!(r#"{{{many}"online":false}}"#);
        let Ok(Content::Status(status)) = parse(MessageKind::Status, status.as_bytes(), now()) else { panic!() };
        assert!(!status.online);
    }

    #[test]
    fn the_memory_of_any_message_is_bounded() {
        for (item, n) in [("[0],", 256), (r#"{"":0},"#, 256), (r#"{"a":{"b":{"c":0}}},"#, 128), ("[[[0]]],", 256)] {
            // As many such values as a message may have, in readings and in metadata.
            let value = format!("[{}0]", item.repeat(n));
            let n_values = 48 * 1024 / (value.len() + 8);
            let object = |n: usize| (0..n).map(|i| format!(r#""k{i}":{value}"#)).collect::<Vec<_>>().join(",");
            let (sensors, metadata) = (object((n_values / 2).min(60)), object((n_values / 2).min(60)));
            let telemetry = format!(
                r#"{{"sensors":{{"co2":612,{sensors},"temperature":20}},"metadata":{{{metadata}}},"timestamp":"1"}}"#
            );
            let status = format!(r#"{{"online":true,{}}}"#, object(n_values.min(60)));
            for (kind, text) in [(MessageKind::Telemetry, &telemetry), (MessageKind::Status, &status)] {
                assert!(text.len() <= MAX_PAYLOAD_BYTES);
                let content = parse(kind, text.as_bytes(), now()).unwrap();
                let memory = text.len() + content.memory_bytes();
                assert!(memory <= 5 * MAX_PAYLOAD_BYTES, "{kind:?} of {} bytes, {item}: {memory} bytes", text.len());
            }
            let (_, m, n_dropped) = read(&telemetry);
            assert_eq!((m.sensors.temperature, m.extra.unwrap()["co2"].as_i64()), (Some(20.0), Some(612)));
            assert!(n_dropped > 0, "values over the budget are counted");
        }
    }

    #[test]
    fn each_fault_has_its_own_reason() {
        let huge = format!(r#"{{"sensors":{{"x":"{}"}}}}"#, "y".repeat(MAX_PAYLOAD_BYTES));
        for (payload, reason) in [
            (&b"\xff\xfe"[..], Rejection::NotUtf8),
            (b"", Rejection::BadJson),
            (b"{", Rejection::BadJson),
            (b"\xef\xbb\xbf{}", Rejection::BadJson),
            (b"NaN", Rejection::BadJson),
            (b"[1,2]", Rejection::BadShape),
            (b"{}", Rejection::BadShape),
            (br#"{"sensors":[]}"#, Rejection::BadShape),
            (br#"{"sensors":{},"metadata":7}"#, Rejection::BadShape),
            (br#"{"sensors":{"a":1,"a":2}}"#, Rejection::DuplicateKey),
            (huge.as_bytes(), Rejection::TooLarge),
        ] {
            assert_eq!(parse(MessageKind::Telemetry, payload, now()), Err(reason));
        }
        for payload in [r#"{"online":"false"}"#, r#"{"online":1}"#, "{}"] {
            assert_eq!(parse(MessageKind::Status, payload.as_bytes(), now()), Err(Rejection::BadShape));
        }
    }

    #[test]
    fn an_answer_names_a_command_or_a_version() {
        let ack = |text: &str| parse(MessageKind::Ack, text.as_bytes(), now());
        let id = CommandId::generate();
        let of = |rest: &str| format!(r#"{{"commandId":"{id}",{rest}}}"#);
        assert_eq!(ack(&of(r#""status":"ACKED""#)), Ok(Content::CommandAnswer(id, AnswerKind::Acked)));
        let done = AnswerKind::Succeeded { result: Some(json!({"power": true})) };
        assert_eq!(ack(&of(r#""status":"SUCCEEDED","result":{"power":true}"#)), Ok(Content::CommandAnswer(id, done)));
        let failed = AnswerKind::Failed { error: Some("no  power".to_owned()), result: None };
        assert_eq!(ack(&of(r#""status":"FAILED","error":"no\u0000 power""#)), Ok(Content::CommandAnswer(id, failed)));
        let applied = Content::ConfigAnswer(3, ConfigAnswerKind::Applied);
        assert_eq!(ack(r#"{"configVersion":3,"status":"APPLIED"}"#), Ok(applied.clone()));
        assert_eq!(ack(r#"{"version":3,"status":"APPLIED"}"#), Ok(applied));
        let errors = Some(json!({"sampleRate": "too fast"}));
        let rejected = Content::ConfigAnswer(3, ConfigAnswerKind::Rejected { errors });
        let text = r#"{"configVersion":3,"status":"REJECTED","errors":{"sampleRate":"too fast"}}"#;
        assert_eq!(ack(text), Ok(rejected));
        assert_eq!(ack(r#"{"commandId":"test_123","status":"ACKED"}"#), Err(Rejection::UnknownCommand));
        for wrong in [
            of(r#""status":"DONE""#),
            of(r#""configVersion":3,"status":"ACKED""#),
            of(r#""status":1"#),
            r#"{"configVersion":0,"status":"APPLIED"}"#.to_owned(),
            r#"{"configVersion":1.5,"status":"APPLIED"}"#.to_owned(),
            r#"{"configVersion":3000000000,"status":"APPLIED"}"#.to_owned(),
            r#"{"status":"ACKED"}"#.to_owned(),
        ] {
            assert_eq!(ack(&wrong), Err(Rejection::BadShape), "{wrong}");
        }
        assert_eq!(ack(&of(&format!(r#""x":"{}""#, "y".repeat(MAX_ANSWER_BYTES)))), Err(Rejection::TooLarge));
    }

    #[test]
    fn a_status_keeps_the_whole_message() {
        let text = r#"{"online":true,"status":{"uptime":86400,"wifiSignal":-45,"batteryLevel":85,"firmwareVersion":"v2"},"errors":[]}"#;
        let Ok(Content::Status(status)) = parse(MessageKind::Status, text.as_bytes(), now()) else { panic!() };
        assert!(status.online);
        assert_eq!(status.report.signal_strength, Some(-45.0));
        assert_eq!(status.last_status["status"]["uptime"], 86400);
    }
}
