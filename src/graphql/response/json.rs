//! Writes responses as JSON.

use std::io::{self, Write};

use async_graphql::Value;
use bytes::Bytes;

use super::{Content, GraphQLResponse};
use crate::graphql::request_error::RequestError;
use crate::graphql::response_writer::{Bounded, Segments, Sink};
use crate::request_memory::Reservation;

/// Most bytes of one response, as JSON.
pub const MAX_RESPONSE_BYTES: usize = 8 << 20;

/// A response as JSON.
pub struct Written {
    pub segments: Vec<Bytes>,
    /// Reserved for the segments.
    pub memory: Reservation,
}

impl From<Vec<u8>> for Written {
    fn from(json: Vec<u8>) -> Self {
        Self { segments: vec![json.into()], memory: Reservation::default() }
    }
}

impl Written {
    pub fn n_bytes(&self) -> usize {
        self.segments.iter().map(Bytes::len).sum()
    }
}

impl GraphQLResponse {
    /// The response as JSON for other subscribers; `None` if it has errors or is too large.
    pub(in crate::graphql) fn to_shared(&self) -> Option<Bytes> {
        if !self.content.errors().is_empty() {
            return None;
        }
        let mut out = Vec::new();
        self.write_within(&mut Bounded::new(&mut out, MAX_RESPONSE_BYTES, &Reservation::default())).ok()?;
        Some(out.into())
    }

    #[cfg(test)]
    pub(in crate::graphql) fn json(&self) -> serde_json::Value {
        let mut out = Vec::new();
        self.write(&mut out);
        serde_json::from_slice(&out).expect("a response is always JSON")
    }

    /// Appends the response as JSON, or an error if it is larger than [`MAX_RESPONSE_BYTES`] or there is no memory for it.
    pub fn write(&self, out: &mut Vec<u8>) {
        let start = out.len();
        let Err(error) = self.write_reserved(out) else { return };
        out.truncate(start);
        out.shrink_to_fit();
        error.write_unreserved(out);
    }

    /// The response as JSON in segments. An error is a response to be sent in its place, with its own status.
    pub fn into_written(self) -> Result<Written, Box<Self>> {
        let mut segments = Segments::default();
        match self.write_reserved(&mut segments) {
            Ok(()) => {}
            Err(refused) if refused.retry_after_seconds.is_some() => return Err(refused),
            Err(error) => {
                segments = Segments::default();
                error.write_unreserved(&mut segments);
            }
        }
        Ok(Written { segments: segments.finish(), memory: self.memory })
    }

    /// Writes the response, and reserves its bytes in place of what the operation has reserved. Fails with the response
    /// to send instead.
    fn write_reserved<S: Sink>(&self, out: &mut S) -> Result<(), Box<Self>> {
        self.memory.shrink_to(0);
        let mut out = Bounded::new(out, MAX_RESPONSE_BYTES, &self.memory);
        let written = self.write_within(&mut out).and_then(|()| out.finish());
        let Err(_) = written else { return Ok(()) };
        self.memory.shrink_to(0);
        if let Some(exceeded) = out.refused {
            return Err(Box::new(Self::stopped_or_refused(exceeded.into(), self.is_mutation)));
        }
        if let Some(counter) = &self.oversized {
            counter.inc();
        }
        let message = format!("the response is larger than {MAX_RESPONSE_BYTES} bytes: request less at a time");
        Err(Box::new(Self::stopped(RequestError::too_large(message))))
    }

    fn write_unreserved<S: Sink>(&self, out: &mut S) {
        let mut out = Bounded::new(out, usize::MAX, &self.memory);
        self.write_within(&mut out).expect("an error is always JSON");
    }

    fn write_within<S: Sink>(&self, out: &mut Bounded<'_, S>) -> io::Result<()> {
        let response = match &self.content {
            Content::Executed(response) => response,
            Content::Shared(json) => return out.shared(json),
        };
        out.write_all(b"{")?;
        let mut separator = "";
        if !response.errors.is_empty() {
            // First, so that a reader sees them above a long `data`.
            out.write_all(b"\"errors\":")?;
            serde_json::to_writer(&mut *out, &response.errors)?;
            separator = ",";
        }
        if !self.is_request_error {
            write!(out, "{separator}\"data\":")?;
            write_value(&response.data, out)?;
            separator = ",";
        }
        if !response.extensions.is_empty() {
            write!(out, "{separator}\"extensions\":")?;
            serde_json::to_writer(&mut *out, &response.extensions)?;
        }
        out.write_all(b"}")
    }
}

/// Writes a value of the library. Its binary values are JSON, written by `rows`.
fn write_value<S: Sink>(value: &Value, out: &mut Bounded<'_, S>) -> io::Result<()> {
    match value {
        Value::Binary(json) => out.shared(json),
        Value::List(items) => {
            out.write_all(b"[")?;
            for (n, item) in items.iter().enumerate() {
                out.write_all(if n > 0 { b"," } else { b"" })?;
                write_value(item, out)?;
            }
            out.write_all(b"]")
        }
        Value::Object(fields) => {
            out.write_all(b"{")?;
            for (n, (name, value)) in fields.iter().enumerate() {
                out.write_all(if n > 0 { b"," } else { b"" })?;
                serde_json::to_writer(&mut *out, name)?;
                out.write_all(b":")?;
                write_value(value, out)?;
            }
            out.write_all(b"}")
        }
        scalar => Ok(serde_json::to_writer(out, scalar)?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_json_of_rows_is_copied_into_the_response() {
        let data = async_graphql::value!({ "a\"": [1, "x", null, { "b": [] }] });
        let Value::Object(mut fields) = data else { panic!("an object") };
        fields.insert(async_graphql::Name::new("rows"), Value::Binary(b"[{\"id\":\"1\"}]".as_slice().into()));
        let mut out = Vec::new();
        GraphQLResponse::for_test(Value::Object(fields)).write(&mut out);
        let expected = r#"{"data":{"a\"":[1,"x",null,{"b":[]}],"rows":[{"id":"1"}]}}"#;
        assert_eq!(std::str::from_utf8(&out), Ok(expected));
    }
}
