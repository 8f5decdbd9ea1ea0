//! Scalars and enums of the API, and ids in and out.

use std::borrow::Cow;
use std::str::FromStr;

use async_graphql::registry::Registry;
use async_graphql::{Enum, ID, InputType, InputValueError, InputValueResult, Scalar, ScalarType, Value};
use chrono::{DateTime, SecondsFormat, SubsecRound, Utc};

use super::error::Result;
use crate::devices::{self, Mac};
use crate::error::Error;
use crate::{homes, telemetry};

/// Reads the id of a thing. What is no id names nothing, exactly as the id of a thing that is not there.
pub(super) fn parse_id<T: FromStr>(id: &ID, what: &'static str) -> Result<T> {
    id.parse().map_err(|_| Error::NotFound(what).into())
}

fn wrong<T: async_graphql::InputType>(field: &str, expected: &str) -> InputValueError<T> {
    InputValueError::custom(expected).with_extension("code", "BAD_USER_INPUT").with_extension("field", field)
}

/// An instant in UTC as RFC 3339 text with milliseconds or better: `2026-02-13T12:00:00.000Z`. Any
/// offset is accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Instant(pub(super) DateTime<Utc>);

/// An instant in UTC as RFC 3339 text with milliseconds or better: `2026-02-13T12:00:00.000Z`. Any
/// offset is accepted.
#[Scalar(name = "DateTime", specified_by_url = "https://scalars.graphql.org/chillicream/date-time.html")]
impl ScalarType for Instant {
    fn parse(value: Value) -> InputValueResult<Self> {
        let Value::String(text) = &value else { return Err(wrong("DateTime", EXPECTED_DATE_TIME)) };
        let at = DateTime::parse_from_rfc3339(text).map_err(|_| wrong("DateTime", EXPECTED_DATE_TIME))?;
        Ok(Self(at.with_timezone(&Utc).trunc_subsecs(6)))
    }

    fn to_value(&self) -> Value {
        let whole = self.0.timestamp_subsec_micros().is_multiple_of(1000);
        let precision = if whole { SecondsFormat::Millis } else { SecondsFormat::Micros };
        Value::String(self.0.to_rfc3339_opts(precision, true))
    }
}

/// A `DateTime` that is judged in the resolver, so that a wrong one is refused by its argument's name: the
/// library does not tell a scalar whose value it reads.
#[derive(Debug, Clone, Copy)]
pub(super) struct InstantArgument(Option<DateTime<Utc>>);

impl InstantArgument {
    /// The instant, or a refusal of the argument of this name.
    pub(super) fn read(self, argument: &'static str) -> Result<DateTime<Utc>> {
        Ok(self.0.ok_or_else(|| Error::bad_input(argument, format!("{argument}: {EXPECTED_DATE_TIME}")))?)
    }
}

impl InputType for InstantArgument {
    type RawValueType = Self;

    fn type_name() -> Cow<'static, str> {
        <Instant as InputType>::type_name()
    }

    fn create_type_info(registry: &mut Registry) -> String {
        <Instant as InputType>::create_type_info(registry)
    }

    fn parse(value: Option<Value>) -> InputValueResult<Self> {
        Ok(Self(<Instant as InputType>::parse(value).ok().map(|at| at.0)))
    }

    fn to_value(&self) -> Value {
        self.0.map_or(Value::Null, |at| ScalarType::to_value(&Instant(at)))
    }

    fn as_raw_value(&self) -> Option<&Self::RawValueType> {
        Some(self)
    }
}

const EXPECTED_DATE_TIME: &str = "expected RFC 3339 text such as 2026-02-13T12:00:00.000Z";

impl From<DateTime<Utc>> for Instant {
    fn from(at: DateTime<Utc>) -> Self {
        Self(at)
    }
}

/// A MAC address: accepted in any usual form, returned as `24:6F:28:AA:BB:CC`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct MacAddress(pub(super) Mac);

/// A MAC address: accepted in any usual form, returned as `24:6F:28:AA:BB:CC`.
#[Scalar(name = "MacAddress")]
impl ScalarType for MacAddress {
    fn parse(value: Value) -> InputValueResult<Self> {
        let mac = if let Value::String(text) = &value { text.parse().ok() } else { None };
        let expected = "expected a MAC address such as 24:6F:28:AA:BB:CC";
        mac.map(Self).ok_or_else(|| wrong("macAddress", expected))
    }

    fn to_value(&self) -> Value {
        Value::String(self.0.to_string())
    }
}

/// What a member of a home may do; each role may do all that the lower ones may.
#[derive(Enum, Copy, Clone, PartialEq, Eq)]
#[graphql(remote = "homes::HomeRole")]
pub(super) enum HomeRole {
    /// Also deletes and transfers the home.
    Owner,
    /// Also configures: devices, rooms, settings of the home.
    Admin,
    /// Also sends commands.
    Member,
    /// Reads.
    Guest,
}

/// Whose clock gave `Telemetry.recordedAt`.
#[derive(Enum, Copy, Clone, PartialEq, Eq)]
#[graphql(remote = "telemetry::TimeSource")]
pub(super) enum TimeSource {
    /// The device's.
    Device,
    /// The server's: the time of receipt, because the device sent no usable time.
    Server,
}

/// What sort of thing a device is.
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
    /// Anything else.
    Other,
}
