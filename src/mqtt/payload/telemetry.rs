//! Telemetry: readings of sensors, and what the device says of itself beside them.

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};

use super::{Content, insert_bounded, is_health, read_health};
use crate::mqtt::json::{self, Budget, IsKnown, Keys, Nested, Object};
use crate::mqtt::rejection::Rejection;
use crate::mqtt::timestamp;
use crate::telemetry::{Measurement, Sensors, for_each_sensor};

pub(super) const KEYS: Keys = Keys { is_known: is_field, nested };

fn is_field(name: &str) -> bool {
    matches!(name, "timestamp" | "deviceId" | "sensors" | "metadata")
}

fn nested(name: &str) -> Option<IsKnown> {
    match name {
        "sensors" => Some(is_sensor),
        "metadata" => Some(is_health),
        _ => None,
    }
}

/// `n_nan` values were no numbers.
pub(super) fn read(object: &Object<'_>, n_nan: usize, now: DateTime<Utc>) -> Result<Content, Rejection> {
    let Some(Nested::Object(sensors)) = object.nested("sensors") else { return Err(Rejection::BadShape) };
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
    match object.nested("metadata") {
        None | Some(Nested::Null) => {}
        Some(Nested::Other) => return Err(Rejection::BadShape),
        Some(Nested::Object(fields)) if fields.has_duplicate => return Err(Rejection::DuplicateKey),
        Some(Nested::Object(fields)) => {
            n_dropped += fields.n_skipped;
            for (name, raw) in fields.iter().filter(|(_, raw)| *raw != "null") {
                if !read_health(&mut measurement.report, name, raw) {
                    n_dropped += usize::from(!insert_bounded(&mut metadata, name, raw, &mut budget));
                }
            }
        }
    }
    // Further fields of the message, such as a sequence number.
    for (name, raw) in object.iter() {
        if !is_field(name) && raw != "null" && !metadata.contains_key(name) {
            n_dropped += usize::from(!insert_bounded(&mut metadata, name, raw, &mut budget));
        }
    }
    measurement.extra = (!extra.is_empty()).then_some(Value::Object(extra));
    measurement.metadata = (!metadata.is_empty()).then_some(Value::Object(metadata));
    let timestamp = object.get("timestamp").and_then(|raw| timestamp::parse(raw, now));
    Ok(Content::Telemetry { timestamp, measurement: Box::new(measurement), n_dropped })
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
