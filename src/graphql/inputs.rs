//! Inputs that the library has no type for: what matters is how they were given.

use std::borrow::Cow;

use async_graphql::registry::Registry;
use async_graphql::{InputType, InputValueError, InputValueResult, Value};

use super::error::Result;
use crate::db::JsonText;
use crate::error::Error;

/// JSON in the order it was given, which the library's own type sorts.
pub(super) struct JsonInput(Value);

impl JsonInput {
    /// `{}`.
    pub(super) fn empty_object() -> Self {
        Self(Value::Object(async_graphql::indexmap::IndexMap::new()))
    }

    /// As it is kept.
    pub(super) fn text(&self) -> JsonText {
        JsonText::of(&self.0)
    }
}

impl InputType for JsonInput {
    type RawValueType = Self;

    fn type_name() -> Cow<'static, str> {
        <serde_json::Value as InputType>::type_name()
    }

    fn create_type_info(registry: &mut Registry) -> String {
        <serde_json::Value as InputType>::create_type_info(registry)
    }

    fn parse(value: Option<Value>) -> InputValueResult<Self> {
        Ok(Self(value.unwrap_or_default()))
    }

    fn to_value(&self) -> Value {
        self.0.clone()
    }

    fn as_raw_value(&self) -> Option<&Self::RawValueType> {
        Some(self)
    }
}

/// An `Int` of seconds that knows whether the client gave it, and is judged in the resolver.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seconds {
    value: f64,
    is_given: bool,
}

impl Seconds {
    /// What stands in the schema.
    pub(super) fn default_of(seconds: i64) -> Self {
        Self { value: seconds as f64, is_given: false }
    }

    /// The seconds, if the client gave them.
    pub(super) fn read(this: Option<Self>, field: &'static str) -> Result<Option<i64>> {
        let Some(Self { value, .. }) = this.filter(|seconds| seconds.is_given) else { return Ok(None) };
        if value.fract() != 0.0 || value.abs() > 1e15 {
            return Err(Error::bad_input(field, format!("{field} must be a whole number of seconds")).into());
        }
        Ok(Some(value as i64))
    }
}

impl InputType for Seconds {
    type RawValueType = Self;

    fn type_name() -> Cow<'static, str> {
        <i32 as InputType>::type_name()
    }

    fn create_type_info(registry: &mut Registry) -> String {
        <i32 as InputType>::create_type_info(registry)
    }

    fn parse(value: Option<Value>) -> InputValueResult<Self> {
        match value {
            Some(Value::Number(number)) => Ok(Self { value: number.as_f64().unwrap_or(f64::NAN), is_given: true }),
            other => Err(InputValueError::expected_type(other.unwrap_or_default())
                .with_extension("code", "BAD_USER_INPUT")
                .with_extension("field", "input")),
        }
    }

    fn to_value(&self) -> Value {
        Value::from(self.value as i64)
    }

    fn as_raw_value(&self) -> Option<&Self::RawValueType> {
        Some(self)
    }
}
