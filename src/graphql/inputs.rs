//! Input types that accept every value and are checked in the resolver, so that an error names the
//! argument. The library's own types don't know the argument they stand for, and inside a list they
//! leave a null behind.

use std::borrow::Cow;
use std::ops::RangeInclusive;

use async_graphql::registry::Registry;
use async_graphql::{InputType, InputValueResult, ScalarType, Value};
use chrono::{DateTime, Utc};

use super::error::Result;
use super::scalars::{EXPECTED_DATE_TIME, Instant};
use crate::error::Error;

/// Implements the library's `InputType` by `from_input` and `input_value`, under the name of another type.
macro_rules! input_named_like {
    ($input:ty, $like:ty) => {
        impl InputType for $input {
            type RawValueType = Self;

            fn type_name() -> Cow<'static, str> {
                <$like as InputType>::type_name()
            }

            fn create_type_info(registry: &mut Registry) -> String {
                <$like as InputType>::create_type_info(registry)
            }

            fn parse(value: Option<Value>) -> InputValueResult<Self> {
                Ok(Self::from_input(value.unwrap_or_default()))
            }

            fn to_value(&self) -> Value {
                self.input_value()
            }

            fn as_raw_value(&self) -> Option<&Self::RawValueType> {
                Some(self)
            }
        }
    };
}

/// An `Int` input.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct IntInput {
    /// NaN for a value that is not a number.
    value: f64,
    /// False for the default in the schema.
    is_given: bool,
}

input_named_like!(IntInput, i32);

impl IntInput {
    /// A default in the schema.
    pub(super) fn default_of(value: i64) -> Self {
        Self { value: value as f64, is_given: false }
    }

    #[cfg(test)]
    pub(super) fn given(value: f64) -> Self {
        Self { value, is_given: true }
    }

    /// Whether the client gave it. False for the default in the schema.
    pub(super) fn is_given(self) -> bool {
        self.is_given
    }

    /// The value if it is a whole number in this range.
    pub(super) fn within(self, range: RangeInclusive<i64>) -> Option<i64> {
        // Beyond 2^53 an f64 has no exact integers.
        let is_whole = self.value.fract() == 0.0 && self.value.abs() <= 1e15;
        is_whole.then_some(self.value as i64).filter(|value| range.contains(value))
    }

    /// A number of seconds, or `None` if the client left the argument out or gave null.
    pub(super) fn seconds(input: Option<Self>, field: &'static str) -> Result<Option<i64>> {
        let Some(input) = input.filter(|input| input.is_given) else { return Ok(None) };
        let seconds = input.within(i64::MIN..=i64::MAX);
        Ok(Some(seconds.ok_or_else(|| Error::bad_input(field, format!("{field} must be a whole number of seconds")))?))
    }

    fn from_input(value: Value) -> Self {
        let Value::Number(number) = value else { return Self { value: f64::NAN, is_given: true } };
        Self { value: number.as_f64().unwrap_or(f64::NAN), is_given: true }
    }

    fn input_value(&self) -> Value {
        match self.within(i64::MIN..=i64::MAX) {
            Some(whole) => Value::from(whole),
            None => serde_json::Number::from_f64(self.value).map_or(Value::Null, Value::Number),
        }
    }
}

/// A `DateTime` input.
#[derive(Debug, Clone, Copy)]
pub(super) struct InstantInput(Option<DateTime<Utc>>);

input_named_like!(InstantInput, Instant);

impl InstantInput {
    /// The instant, or an error that names the argument.
    pub(super) fn read(self, argument: &'static str) -> Result<DateTime<Utc>> {
        Ok(self.0.ok_or_else(|| Error::bad_input(argument, format!("{argument}: {EXPECTED_DATE_TIME}")))?)
    }

    fn from_input(value: Value) -> Self {
        Self(<Instant as ScalarType>::parse(value).ok().map(|instant| instant.0))
    }

    fn input_value(&self) -> Value {
        self.0.map_or(Value::Null, |at| ScalarType::to_value(&Instant(at)))
    }
}
