//! Responses to clients. Every response of the library becomes a [`GraphQLResponse`] before it is sent: its
//! errors are sanitized, a request error has no `data` key, and its size is bounded.

use std::io::{self, Write};
use std::iter::once;
use std::time::Instant;

use async_graphql::{PathSegment, Response, ServerError, Value};
use bytes::Bytes;
use prometheus_client::metrics::counter::Counter;
use serde::Serialize;

use super::client_errors;
use super::request_error::RequestError;
use super::response_writer::{Bounded, Segments, Sink};
use crate::error::codes::CODES;
use crate::request_memory::{FREE_BYTES, Reservation};

/// Most bytes of one response, as JSON.
pub const MAX_RESPONSE_BYTES: usize = 8 << 20;

/// One response of one operation.
#[derive(Debug)]
pub struct GraphQLResponse {
    content: Content,
    is_request_error: bool,
    /// The code of a request error, which decides the HTTP status.
    code: Option<&'static str>,
    /// Counts the response if it is too large to be sent.
    oversized: Option<Counter>,
    /// The memory of the response, until its client has taken it.
    memory: Reservation,
    /// Whether the operation may have changed something, so that it can't be refused any more.
    is_mutation: bool,
    /// When the same request may succeed, in seconds.
    retry_after_seconds: Option<u64>,
    /// When its event was published; `None` for a response to anything but a live event.
    published_at: Option<Instant>,
    /// Why the request was refused, see [`RequestError::detail`].
    detail: Option<&'static str>,
}

#[derive(Debug)]
enum Content {
    /// Boxed, because a response passes through many hands.
    Executed(Box<Response>),
    /// The whole response as JSON, without errors.
    Shared(Bytes),
}

impl Content {
    fn errors(&self) -> &[ServerError] {
        match self {
            Self::Executed(response) => &response.errors,
            Self::Shared(_) => &[],
        }
    }
}

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
    pub(super) fn new(mut response: Response) -> Self {
        // Errors of the execution name the field in which they happened; errors of the request have no path.
        let is_request_error = !response.errors.is_empty()
            && response.data == Value::Null
            && response.errors.iter().all(|error| error.path.is_empty());
        client_errors::sanitize(&mut response.errors);
        Self::of(Content::Executed(Box::new(response)), is_request_error)
    }

    fn of(content: Content, is_request_error: bool) -> Self {
        Self {
            content,
            is_request_error,
            code: None,
            oversized: None,
            memory: Reservation::default(),
            is_mutation: false,
            retry_after_seconds: None,
            published_at: None,
            detail: None,
        }
    }

    /// A response without errors that [`Self::to_shared`] has written.
    pub(super) fn shared(written: Bytes) -> Self {
        Self::of(Content::Shared(written), false)
    }

    /// The response as JSON for other subscribers; `None` if it has errors or is too large.
    pub(super) fn to_shared(&self) -> Option<Bytes> {
        if !self.content.errors().is_empty() {
            return None;
        }
        let mut out = Vec::new();
        self.write_within(&mut Bounded::new(&mut out, MAX_RESPONSE_BYTES, &Reservation::default())).ok()?;
        Some(out.into())
    }

    #[cfg(test)]
    pub(crate) fn for_test(data: Value) -> Self {
        Self::new(Response::new(data))
    }

    #[cfg(test)]
    pub(super) fn json(&self) -> serde_json::Value {
        let mut out = Vec::new();
        self.write(&mut out);
        serde_json::from_slice(&out).expect("a response is always JSON")
    }

    /// The response of an operation that was stopped while it ran: one error and no data.
    pub(super) fn stopped(error: RequestError) -> Self {
        Self { is_request_error: false, ..error.into() }
    }

    /// The response to an operation that `error` ended. A query that may be repeated counts as refused.
    pub(super) fn stopped_or_refused(error: RequestError, is_mutation: bool) -> Self {
        match error.retry_after_seconds {
            None => Self::stopped(error),
            Some(_) if is_mutation => Self::stopped(RequestError::outcome_unknown()),
            Some(_) => error.into(),
        }
    }

    /// Whether the request was refused: nothing was executed and there is no `data`.
    pub fn is_request_error(&self) -> bool {
        self.is_request_error
    }

    /// When the same request may succeed, in seconds.
    pub fn retry_after_seconds(&self) -> Option<u64> {
        self.retry_after_seconds
    }

    /// The code of the first error, and the response key of its root field.
    pub fn first_refusal(&self) -> Option<(&'static str, Option<&str>)> {
        let error = self.content.errors().first()?;
        let Some(Value::String(name)) = error.extensions.as_ref()?.get("code") else { return None };
        let code = CODES.iter().find(|code| code.name == name)?.name;
        let field = match error.path.first() {
            Some(PathSegment::Field(key)) => Some(key.as_str()),
            _ => None,
        };
        Some((code, field))
    }

    /// Why the request was refused: a text that quotes nothing of it.
    pub fn detail(&self) -> Option<&'static str> {
        self.detail
    }

    /// The code of a refused request.
    pub fn error_code(&self) -> Option<&'static str> {
        self.code
    }

    /// Whether a subscription with this first response could not be started: nothing below its one root
    /// field was reached.
    pub fn is_failed_start(&self) -> bool {
        let Content::Executed(response) = &self.content else { return false };
        let errors = &response.errors;
        response.data == Value::Null && !errors.is_empty() && errors.iter().all(|e| e.path.len() <= 1)
    }

    /// The errors alone, for the `error` message of the `graphql-transport-ws` protocol.
    pub fn errors(&self) -> impl Serialize + '_ {
        self.content.errors()
    }

    /// The first error alone, for the `error` message of the older `graphql-ws` protocol.
    pub fn first_error(&self) -> impl Serialize + '_ {
        self.content.errors().first()
    }

    /// The response to an event that was published at this time.
    #[must_use]
    pub(super) fn answering_event_of(self, published_at: Instant) -> Self {
        Self { published_at: Some(published_at), ..self }
    }

    /// When its event was published; `None` for a response to anything but a live event.
    pub fn published_at(&self) -> Option<Instant> {
        self.published_at
    }

    /// Counts the response here if it is too large to be sent.
    #[must_use]
    pub(super) fn counted(self, oversized: &Counter) -> Self {
        Self { oversized: Some(oversized.clone()), ..self }
    }

    /// Reserves memory for the response, as long as it or [`Self::into_memory`] lives.
    #[must_use]
    pub(super) fn holding(self, memory: Reservation, is_mutation: bool) -> Self {
        Self { memory, is_mutation, ..self }
    }

    /// Whether the response is so small that it counts for no limit on memory.
    pub(super) fn needs_no_reservation(&self) -> bool {
        matches!(&self.content, Content::Shared(json) if json.len() <= FREE_BYTES)
    }

    /// What is reserved for the response since it was written.
    pub fn into_memory(self) -> Reservation {
        self.memory
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

impl From<RequestError> for GraphQLResponse {
    fn from(mut request_error: RequestError) -> Self {
        let (code, others) = (request_error.code, std::mem::take(&mut request_error.others));
        let detail = request_error.detail();
        let retry_after_seconds = request_error.retry_after_seconds.map(|seconds| u64::from(seconds.get()));
        let mut errors: Vec<ServerError> = once(request_error).chain(others).map(server_error).collect();
        client_errors::sanitize(&mut errors);
        Self {
            code: Some(code),
            retry_after_seconds,
            detail,
            ..Self::of(Content::Executed(Box::new(Response::from_errors(errors))), true)
        }
    }
}

fn server_error(request_error: RequestError) -> ServerError {
    let RequestError { code, message, field, reason, position, retry_after_seconds, others: _ } = request_error;
    let mut error = ServerError::new(message, position);
    let extensions = error.extensions.get_or_insert_default();
    extensions.set("code", code);
    if let Some(reason) = reason {
        extensions.set("reason", reason.name());
    }
    if let Some(field) = field {
        extensions.set("field", field.into_owned());
    }
    if let Some(seconds) = retry_after_seconds {
        extensions.set("retryAfterSeconds", seconds.get());
    }
    error
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn response(error: ServerError) -> GraphQLResponse {
        GraphQLResponse::new(Response::from_errors(vec![error]))
    }

    #[test]
    fn a_request_error_has_no_data_and_an_executed_one_has() {
        let refused = response(ServerError::new("Unknown field", None));
        assert!(refused.is_request_error());
        assert_eq!(
            refused.json(),
            json!({"errors": [{"message": "Unknown field", "extensions": {"code": "BAD_USER_INPUT"}}]})
        );
        let executed = response(ServerError::new("secret", None).with_path(vec![PathSegment::Field("me".into())]));
        assert_eq!(
            executed.json(),
            json!({
                "errors": [{"message": "internal error", "path": ["me"], "extensions": {"code": "INTERNAL"}}],
                "data": null,
            })
        );
    }

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
