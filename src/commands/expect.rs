//! The effect that a command expects: `{"field": value}` or `{"field": {"min": 1, "max": 2}}`. One message must
//! meet all conditions.

use serde_json::{Map, Value};

use crate::error::Error;

/// Bytes of JSON.
const MAX_BYTES: usize = 2 << 10;
const MAX_FIELDS: usize = 16;
/// Relative difference up to which two numbers are equal.
const TOLERANCE: f64 = 1e-9;

/// A checked effect: the conditions by field.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Expect(Vec<(String, Condition)>);

#[derive(Debug, Clone, PartialEq)]
enum Condition {
    Text(String),
    Flag(bool),
    Number(f64),
    Range { min: Option<f64>, max: Option<f64> },
}

/// A message of a device, read by the names of its fields.
#[derive(Clone, Copy)]
pub struct Observation<'a>(Source<'a>);

#[derive(Clone, Copy)]
enum Source<'a> {
    Readings(&'a dyn Fn(&str) -> Option<Value>),
    Status(&'a Value),
}

impl<'a> Observation<'a> {
    /// A telemetry message: `value_of` returns a reading by its name in the payload (`powerW`), including readings
    /// that have no column.
    pub fn readings(value_of: &'a dyn Fn(&str) -> Option<Value>) -> Self {
        Self(Source::Readings(value_of))
    }

    /// A status message: the fields at its top, such as `online`, then the fields of its object `status`.
    pub fn status(message: &'a Value) -> Self {
        Self(Source::Status(message))
    }

    fn value(&self, field: &str) -> Option<Value> {
        match self.0 {
            Source::Readings(value_of) => value_of(field),
            Source::Status(message) => {
                let within = || message.get("status").and_then(|status| status.get(field));
                message.get(field).filter(|value| !value.is_object()).or_else(within).cloned()
            }
        }
    }
}

impl Expect {
    /// Checks the JSON of a client, which has `n_bytes`.
    pub(super) fn parse(value: &Value, n_bytes: usize) -> Result<Self, Error> {
        let invalid = |message: &str| Err(Error::bad_input("expect", message.to_owned()));
        if n_bytes > MAX_BYTES {
            let message = format!("expect has {n_bytes} bytes of JSON; at most {MAX_BYTES} are allowed");
            return Err(Error::TooLarge { field: "expect", message });
        }
        let Value::Object(fields) = value else {
            return invalid("expect must be an object such as {\"powerW\": {\"min\": 5}}");
        };
        if !(1..=MAX_FIELDS).contains(&fields.len()) {
            return invalid(&format!("expect must name 1 to {MAX_FIELDS} fields"));
        }
        let mut conditions = Vec::with_capacity(fields.len());
        for (name, value) in fields {
            let Some(condition) = Condition::parse(value) else {
                return invalid(&format!(
                    "expect.{name} must be a number, text, true, false, or {{\"min\": …, \"max\": …}} with numbers \
                     and min not above max"
                ));
            };
            conditions.push((name.clone(), condition));
        }
        Ok(Self(conditions))
    }

    /// Reads a stored value, which was checked when it was stored.
    pub(super) fn stored(value: &Value) -> Option<Self> {
        Self::parse(value, 0).ok()
    }

    pub(super) fn is_met_by(&self, message: &Observation<'_>) -> bool {
        self.0.iter().all(|(field, condition)| message.value(field).is_some_and(|value| condition.is_met_by(&value)))
    }
}

impl Condition {
    fn parse(value: &Value) -> Option<Self> {
        match value {
            Value::String(text) => Some(Self::Text(text.clone())),
            Value::Bool(flag) => Some(Self::Flag(*flag)),
            Value::Number(number) => Some(Self::Number(number.as_f64()?)),
            Value::Object(range) => Self::range(range),
            Value::Null | Value::Array(_) => None,
        }
    }

    fn range(range: &Map<String, Value>) -> Option<Self> {
        let (mut min, mut max) = (None, None);
        for (name, bound) in range {
            let bound = Some(bound.as_f64()?);
            match name.as_str() {
                "min" => min = bound,
                "max" => max = bound,
                _ => return None,
            }
        }
        let is_valid = match (min, max) {
            (Some(min), Some(max)) => min <= max,
            (None, None) => false,
            _ => true,
        };
        is_valid.then_some(Self::Range { min, max })
    }

    fn is_met_by(&self, value: &Value) -> bool {
        match self {
            Self::Text(text) => value.as_str() == Some(text),
            Self::Flag(flag) => value.as_bool() == Some(*flag),
            Self::Number(number) => value.as_f64().is_some_and(|value| is_equal(value, *number)),
            Self::Range { min, max } => value.as_f64().is_some_and(|value| {
                min.is_none_or(|min| value >= min || is_equal(value, min))
                    && max.is_none_or(|max| value <= max || is_equal(value, max))
            }),
        }
    }
}

fn is_equal(a: f64, b: f64) -> bool {
    (a - b).abs() <= TOLERANCE * a.abs().max(b.abs())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parse(value: &Value) -> Result<Expect, Error> {
        Expect::parse(value, value.to_string().len())
    }

    #[test]
    fn one_message_must_meet_all_conditions() {
        let expect = parse(&json!({"powerW": {"min": 5}, "flame": false, "mode": "eco", "temperature": 21.5})).unwrap();
        let is_met = |readings: Value| expect.is_met_by(&Observation::readings(&|name| readings.get(name).cloned()));
        assert!(is_met(json!({"powerW": 5, "flame": false, "mode": "eco", "temperature": 21.500000000001, "x": 1})));
        for other in [
            json!({"powerW": 4.9, "flame": false, "mode": "eco", "temperature": 21.5}),
            json!({"powerW": 5, "flame": 0, "mode": "eco", "temperature": 21.5}),
            json!({"powerW": 5, "flame": false, "mode": "Eco", "temperature": 21.5}),
            json!({"powerW": 5, "flame": false, "mode": "eco", "temperature": 21.50001}),
            json!({"powerW": "5", "flame": false, "mode": "eco", "temperature": 21.5}),
            json!({"powerW": 5, "flame": false, "mode": "eco"}),
        ] {
            assert!(!is_met(other.clone()), "{other}");
        }
    }

    #[test]
    fn a_status_message_is_read_at_its_top_and_in_its_status_object() {
        let message = json!({"online": true, "relay": "on", "status": {"firmwareVersion": "1.2.0", "uptime": 7}});
        for (expect, is_met) in [
            (json!({"online": true, "firmwareVersion": "1.2.0"}), true),
            (json!({"relay": "on", "uptime": {"max": 60}}), true),
            (json!({"relay": "off"}), false),
            (json!({"status": "x"}), false),
        ] {
            assert_eq!(parse(&expect).unwrap().is_met_by(&Observation::status(&message)), is_met, "{expect}");
        }
    }

    #[test]
    fn an_effect_that_no_message_can_show_is_rejected() {
        let many: Map<String, Value> = (0..17).map(|n| (n.to_string(), json!(n))).collect();
        for invalid in [
            json!(null),
            json!([]),
            json!({}),
            json!({"a": null}),
            json!({"a": [1]}),
            json!({"a": {}}),
            json!({"a": {"min": "1"}}),
            json!({"a": {"min": 1, "mx": 2}}),
            json!({"a": {"min": 2, "max": 1}}),
            Value::Object(many),
        ] {
            assert_eq!(parse(&invalid).unwrap_err().code(), "BAD_USER_INPUT", "{invalid}");
        }
        assert_eq!(parse(&json!({"a": "x".repeat(2048)})).unwrap_err().code(), "PAYLOAD_TOO_LARGE");
    }
}
