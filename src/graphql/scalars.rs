//! Scalars and enums that several types share, and the parsing of ids.

use std::str::FromStr;

use async_graphql::{Enum, ID, InputValueResult, MaybeUndefined, Scalar, ScalarType, Value};
use chrono::{DateTime, Datelike, SecondsFormat, SubsecRound, Timelike, Utc};

use super::error::{ResolverError, Result};
use crate::db::JsonText;
use crate::devices::{self, Mac};
use crate::error::Error;
use crate::{homes, telemetry};

pub(super) const EXPECTED_DATE_TIME: &str = "expected RFC 3339 text such as 2026-02-13T12:00:00.000Z";
const EXPECTED_MAC_ADDRESS: &str = "expected a MAC address such as 24:6F:28:AA:BB:CC";

/// Parses an id. A malformed id gives the same error as the id of an object that does not exist.
pub(super) fn parse_id<T: FromStr>(id: &ID, what: &'static str) -> Result<T> {
    id.parse().map_err(|_| Error::NotFound(what).into())
}

/// A field of an object to change, which can't be removed. Null is refused: it must not seem to have done something.
pub(super) fn changed<T>(field: &'static str, value: MaybeUndefined<T>) -> Result<Option<T>> {
    match value {
        MaybeUndefined::Undefined => Ok(None),
        MaybeUndefined::Null => {
            Err(Error::bad_input(field, format!("{field} can't be null: leave it out to keep it")).into())
        }
        MaybeUndefined::Value(value) => Ok(Some(value)),
    }
}

fn invalid(field: &'static str, expected: &'static str) -> ResolverError {
    Error::bad_input(field, expected).into()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Instant(pub(super) DateTime<Utc>);

/// A point in time in UTC, as RFC 3339 text with six fractional digits: `2026-02-13T12:00:00.000000Z`. So
/// texts sort like the times. Inputs may have any offset and any number of digits; those after the sixth
/// are ignored.
#[Scalar(name = "DateTime", specified_by_url = "https://www.rfc-editor.org/rfc/rfc3339#section-5.6")]
impl ScalarType for Instant {
    fn parse(value: Value) -> InputValueResult<Self> {
        let Value::String(text) = &value else { return Err(invalid("DateTime", EXPECTED_DATE_TIME).into()) };
        let at = DateTime::parse_from_rfc3339(text).map_err(|_| invalid("DateTime", EXPECTED_DATE_TIME))?;
        Ok(Self(at.with_timezone(&Utc).trunc_subsecs(6)))
    }

    fn to_value(&self) -> Value {
        Value::String(self.text())
    }
}

impl Instant {
    /// The text of every time in a response: microseconds, the precision of PostgreSQL.
    pub(super) fn text(self) -> String {
        let mut text = Vec::with_capacity(RFC_3339_BYTES);
        push_rfc3339(self.0, &mut text);
        String::from_utf8(text).expect("RFC 3339 is ASCII")
    }
}

/// Length of `2026-02-13T12:00:00.000000Z`.
const RFC_3339_BYTES: usize = 27;

/// Appends a time as `DateTime` writes it. Answers hold hundreds of times, and chrono's own formatter takes several
/// times as long.
pub(super) fn push_rfc3339(at: DateTime<Utc>, out: &mut Vec<u8>) {
    let (year, micros) = (at.year(), at.nanosecond() / 1000);
    // Years of five digits, and leap seconds.
    if !(0..=9999).contains(&year) || micros > 999_999 {
        out.extend_from_slice(at.to_rfc3339_opts(SecondsFormat::Micros, true).as_bytes());
        return;
    }
    push_digits::<4>(out, year.unsigned_abs());
    for (separator, number) in
        [(b'-', at.month()), (b'-', at.day()), (b'T', at.hour()), (b':', at.minute()), (b':', at.second())]
    {
        out.push(separator);
        push_digits::<2>(out, number);
    }
    out.push(b'.');
    push_digits::<6>(out, micros);
    out.push(b'Z');
}

/// Appends the last `N` decimal digits of a number.
fn push_digits<const N: usize>(out: &mut Vec<u8>, mut number: u32) {
    let mut digits = [b'0'; N];
    for digit in digits.iter_mut().rev() {
        *digit += u8::try_from(number % 10).expect("one digit");
        number /= 10;
    }
    out.extend_from_slice(&digits);
}

impl From<DateTime<Utc>> for Instant {
    fn from(at: DateTime<Utc>) -> Self {
        Self(at)
    }
}

#[derive(Debug, Clone)]
pub(super) struct Json(Value);

/// Any JSON value. Objects keep the order of their keys.
#[Scalar(name = "JSON", specified_by_url = "https://www.rfc-editor.org/rfc/rfc8259")]
impl ScalarType for Json {
    fn parse(value: Value) -> InputValueResult<Self> {
        Ok(Self(value))
    }

    fn to_value(&self) -> Value {
        self.0.clone()
    }
}

impl Json {
    pub(super) fn empty_object() -> Self {
        Self(Value::Object(Default::default()))
    }

    pub(super) fn value(&self) -> &Value {
        &self.0
    }

    pub(super) fn text(&self) -> JsonText {
        JsonText::of(&self.0)
    }

    pub(super) fn into_json(self) -> serde_json::Value {
        self.0.into_json().unwrap_or_default()
    }
}

impl From<&JsonText> for Json {
    fn from(text: &JsonText) -> Self {
        Self(serde_json::from_str(text.as_str()).unwrap_or_default())
    }
}

impl From<serde_json::Value> for Json {
    fn from(value: serde_json::Value) -> Self {
        Self(Value::from_json(value).unwrap_or_default())
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct MacAddress(pub(super) Mac);

/// A MAC address. Inputs may have any common form; responses use `24:6F:28:AA:BB:CC`.
#[Scalar(name = "MacAddress")]
impl ScalarType for MacAddress {
    fn parse(value: Value) -> InputValueResult<Self> {
        let mac = if let Value::String(text) = &value { text.parse().ok() } else { None };
        Ok(Self(mac.ok_or_else(|| invalid("macAddress", EXPECTED_MAC_ADDRESS))?))
    }

    fn to_value(&self) -> Value {
        Value::String(self.0.to_string())
    }
}

/// A number as an `Int`, which ends at 2147483647.
pub(super) fn int(n: i64) -> i32 {
    i32::try_from(n).unwrap_or(i32::MAX)
}

/// The role of a member in a home. Each role includes the rights of the roles below it.
#[derive(Enum, Copy, Clone, PartialEq, Eq)]
#[graphql(remote = "homes::HomeRole")]
pub(super) enum HomeRole {
    /// May also delete the home and make other members owners.
    Owner,
    /// May also manage devices, rooms, members and the settings of the home.
    Admin,
    /// May also send commands.
    Member,
    /// May only read.
    Guest,
}

/// The clock that set `Telemetry.recordedAt`.
#[derive(Enum, Copy, Clone, PartialEq, Eq)]
#[graphql(remote = "telemetry::TimeSource")]
pub(super) enum TimeSource {
    /// The clock of the device.
    Device,
    /// The clock of the server: the time of receipt, because the device sent no usable time.
    Server,
}

/// The kind of a device.
#[derive(Enum, Copy, Clone, PartialEq, Eq)]
#[graphql(remote = "devices::DeviceType")]
pub(super) enum DeviceType {
    /// A lamp.
    Light,
    /// A fan.
    Fan,
    /// A bell or chime.
    Bell,
    /// A door, lock or gate.
    Door,
    /// A switched socket.
    Plug,
    /// A thermostat.
    Thermostat,
    /// A camera.
    Camera,
    /// A board with sensors, such as an ESP32.
    SensorNode,
    /// A power meter.
    PowerMeter,
    /// Any other device.
    Other,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_time_has_six_fractional_digits() {
        for (input, text) in [
            ("2026-02-13T12:00:00Z", "2026-02-13T12:00:00.000000Z"),
            ("2026-02-13T13:00:00.1+01:00", "2026-02-13T12:00:00.100000Z"),
            ("2026-02-13t12:00:00.1234567z", "2026-02-13T12:00:00.123456Z"),
        ] {
            let parsed = <Instant as ScalarType>::parse(Value::from(input)).unwrap();
            assert_eq!(ScalarType::to_value(&parsed), Value::from(text));
        }
    }

    #[test]
    fn a_time_is_written_as_rfc_3339() {
        let written = |at| {
            let mut out = Vec::new();
            push_rfc3339(at, &mut out);
            String::from_utf8(out).unwrap()
        };
        for (text, expected) in [
            ("2026-02-13T12:00:00Z", "2026-02-13T12:00:00.000000Z"),
            ("2026-12-31T23:59:59.999999Z", "2026-12-31T23:59:59.999999Z"),
            ("0001-01-01T00:00:00.5Z", "0001-01-01T00:00:00.500000Z"),
            ("9999-12-31T23:59:59.000001Z", "9999-12-31T23:59:59.000001Z"),
            ("1969-12-31T23:59:59.040Z", "1969-12-31T23:59:59.040000Z"),
            ("2016-12-31T23:59:60.25Z", "2016-12-31T23:59:60.250000Z"),
        ] {
            assert_eq!(written(text.parse().unwrap()), expected);
        }
        let far: DateTime<Utc> = "+12345-01-01T00:00:00Z".parse().unwrap();
        assert_eq!(written(far), "+12345-01-01T00:00:00.000000Z");
    }
}
