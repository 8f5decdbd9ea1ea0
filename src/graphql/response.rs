//! Responses to clients. Every response of the library becomes a [`GraphQLResponse`] before it is sent: its
//! errors are sanitized, a request error has no `data` key, and its size is bounded.

mod json;

use std::iter::once;

use async_graphql::{PathSegment, Response, ServerError, Value};
use bytes::Bytes;
use prometheus_client::metrics::counter::Counter;
use serde::Serialize;

use super::client_errors;
use super::request_error::RequestError;
use crate::error::codes::CODES;
use crate::hub::Published;
use crate::request_memory::{FREE_BYTES, Reservation};
pub use json::{MAX_RESPONSE_BYTES, Written};

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
    /// The publication of its event; `None` for a response to anything but a live event.
    published: Option<Published>,
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
            published: None,
            detail: None,
        }
    }

    /// A response without errors that [`Self::to_shared`] has written.
    pub(super) fn shared(written: Bytes) -> Self {
        Self::of(Content::Shared(written), false)
    }

    #[cfg(test)]
    pub(crate) fn for_test(data: Value) -> Self {
        Self::new(Response::new(data))
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

    /// The response to an event that was published so.
    #[must_use]
    pub(super) fn answering_event_of(self, published: Published) -> Self {
        Self { published: Some(published), ..self }
    }

    /// The publication of its event; `None` for a response to anything but a live event.
    pub fn published(&self) -> Option<Published> {
        self.published
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

    /// The size of the response as JSON, if that is known before it is written.
    pub fn known_bytes(&self) -> Option<usize> {
        match &self.content {
            Content::Executed(_) => None,
            Content::Shared(json) => Some(json.len()),
        }
    }

    /// Whether the response is so small that it counts for no limit on memory.
    pub(super) fn needs_no_reservation(&self) -> bool {
        matches!(&self.content, Content::Shared(json) if json.len() <= FREE_BYTES)
    }

    /// What is reserved for the response since it was written.
    pub fn into_memory(self) -> Reservation {
        self.memory
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
}
