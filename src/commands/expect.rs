//! What a command expects to see: `{"field": value}` or `{"field": {"min": 1, "max": 2}}`. All fields
//! must be shown by one and the same message.

use serde_json::{Map, Value};

use crate::error::Error;

/// Bytes of an expectation, as JSON.
const MAX_BYTES: usize = 2 << 10;
/// Fields of an expectation.
const MAX_FIELDS: usize = 16;
/// How far two numbers may lie apart, relative to the greater one, and be the same.
const TOLERANCE: f64 = 1e-9;

/// A checked expectation.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Expect(Vec<(String, Condition)>);

/// What one field must show.
#[derive(Debug, Clone, PartialEq)]
enum Condition {
    Text(String),
    Flag(bool),
    Number(f64),
    Range { min: Option<f64>, max: Option<f64> },
}

/// One message of a device, asked by the names of its fields.
#[derive(Clone, Copy)]
pub struct Observation<'a>(Source<'a>);

#[derive(Clone, Copy)]
enum Source<'a> {
    Readings(&'a dyn Fn(&str) -> Option<Value>),
    Status(&'a Value),
}

impl<'a> Observation<'a> {
    /// Readings: the value of each by its name on the wire (`powerW`, also one that the schema does not
    /// know), where the message has it.
    pub fn readings(value_of: &'a dyn Fn(&str) -> Option<Value>) -> Self {
        Self(Source::Readings(value_of))
    }

    /// A status message as it came: `online` and whatever else stands at the top, then what stands in
    /// `status`.
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
    /// Reads and checks what a client gave.
    pub(super) fn parse(value: &Value, n_bytes: usize) -> Result<Self, Error> {
        let wrong = |message: &str| Err(Error::bad_input("expect", message.to_owned()));
        if n_bytes > MAX_BYTES {
            let message = format!("expect has {n_bytes} bytes of JSON; it may have {MAX_BYTES}");
            return Err(Error::TooLarge { field: "expect", message });
        }
        let Value::Object(fields) = value else {
            return wrong("expect must be an object such as {\"powerW\": {\"min\": 5}}");
        };
        if !(1..=MAX_FIELDS).contains(&fields.len()) {
            return wrong(&format!("expect must name 1 to {MAX_FIELDS} fields"));
        }
        let mut conditions = Vec::with_capacity(fields.len());
        for (name, value) in fields {
            let Some(condition) = Condition::parse(value) else {
                return wrong(&format!(
                    "expect.{name} must be a number, text, true, false, or {{\"min\": …, \"max\": …}} with numbers \
                     and min not above max"
                ));
            };
            conditions.push((name.clone(), condition));
        }
        Ok(Self(conditions))
    }

    /// Out of the database, where only what was checked stands.
    pub(super) fn stored(value: &Value) -> Option<Self> {
        Self::parse(value, 0).ok()
    }

    /// Whether the message shows all of it.
    pub(super) fn is_shown(&self, message: &Observation<'_>) -> bool {
        self.0.iter().all(|(field, condition)| message.value(field).is_some_and(|value| condition.holds(&value)))
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
        let is_range = match (min, max) {
            (Some(min), Some(max)) => min <= max,
            (None, None) => false,
            _ => true,
        };
        is_range.then_some(Self::Range { min, max })
    }

    fn holds(&self, value: &Value) -> bool {
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
    fn all_of_it_must_be_in_one_message() {
        let expect = parse(&json!({"powerW": {"min": 5}, "flame": false, "mode": "eco", "temperature": 21.5})).unwrap();
        let shows = |readings: Value| expect.is_shown(&Observation::readings(&|name| readings.get(name).cloned()));
        assert!(shows(json!({"powerW": 5, "flame": false, "mode": "eco", "temperature": 21.500000000001, "x": 1})));
        for other in [
            json!({"powerW": 4.9, "flame": false, "mode": "eco", "temperature": 21.5}),
            json!({"powerW": 5, "flame": 0, "mode": "eco", "temperature": 21.5}),
            json!({"powerW": 5, "flame": false, "mode": "Eco", "temperature": 21.5}),
            json!({"powerW": 5, "flame": false, "mode": "eco", "temperature": 21.50001}),
            json!({"powerW": "5", "flame": false, "mode": "eco", "temperature": 21.5}),
            json!({"powerW": 5, "flame": false, "mode": "eco"}),
        ] {
            assert!(!shows(other.clone()), "{other}");
        }
    }

    #[test]
    fn a_status_shows_its_own_fields_and_those_within() {
        let message = json!({"online": true, "relay": "on", "status": {"firmwareVersion": "1.2.0", "uptime": 7}});
        for (expect, is_shown) in [
            (json!({"online": true, "firmwareVersion": "1.2.0"}), true),
            (json!({"relay": "on", "uptime": {"max": 60}}), true),
            (json!({"relay": "off"}), false),
            (json!({"status": "x"}), false),
        ] {
            assert_eq!(parse(&expect).unwrap().is_shown(&Observation::status(&message)), is_shown, "{expect}");
        }
    }

    #[test]
    fn what_no_message_could_show_is_refused() {
        let many: Map<String, Value> = (0..17).map(|n| (n.to_string(), json!(n))).collect();
        for wrong in [
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
            assert_eq!(parse(&wrong).unwrap_err().code(), "BAD_USER_INPUT", "{wrong}");
        }
        assert_eq!(parse(&json!({"a": "x".repeat(2048)})).unwrap_err().code(), "PAYLOAD_TOO_LARGE");
    }
}
