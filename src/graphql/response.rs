//! Responses to clients. Every response of the library becomes a [`GraphQLResponse`] before it is sent: its
//! errors are sanitized, a request error has no `data` key, and its size is bounded.

use async_graphql::{Response, ServerError, Value};
use prometheus_client::metrics::counter::Counter;
use serde::ser::{Serialize, SerializeMap, Serializer};

use super::client_errors;
use super::request_error::RequestError;

/// Most bytes of one response, as JSON.
pub const MAX_RESPONSE_BYTES: usize = 8 << 20;

/// One response of one operation.
#[derive(Debug)]
pub struct GraphQLResponse {
    response: Response,
    is_request_error: bool,
    /// The code of a request error, which decides the HTTP status.
    code: Option<&'static str>,
    /// Counts the response if it is too large to be sent.
    oversized: Option<Counter>,
}

impl GraphQLResponse {
    pub(super) fn new(mut response: Response) -> Self {
        // Errors of the execution name the field in which they happened; errors of the request have no path.
        let is_request_error = !response.errors.is_empty()
            && response.data == Value::Null
            && response.errors.iter().all(|error| error.path.is_empty());
        client_errors::sanitize(&mut response.errors);
        Self { response, is_request_error, code: None, oversized: None }
    }

    #[cfg(test)]
    pub(crate) fn for_test(data: Value) -> Self {
        Self::new(Response::new(data))
    }

    /// The response of an operation that was stopped while it ran: one error and no data.
    pub(super) fn stopped(error: RequestError) -> Self {
        Self { is_request_error: false, ..error.into() }
    }

    /// Whether the request was refused: nothing was executed and there is no `data`.
    pub fn is_request_error(&self) -> bool {
        self.is_request_error
    }

    /// The code of a refused request.
    pub fn error_code(&self) -> Option<&'static str> {
        self.code
    }

    /// Whether a subscription with this first response could not be started: nothing below its one root
    /// field was reached.
    pub fn is_failed_start(&self) -> bool {
        let errors = &self.response.errors;
        self.response.data == Value::Null && !errors.is_empty() && errors.iter().all(|e| e.path.len() <= 1)
    }

    /// The errors alone, for the `error` message of the `graphql-transport-ws` protocol.
    pub fn errors(&self) -> impl Serialize + '_ {
        &self.response.errors
    }

    /// The first error alone, for the `error` message of the older `graphql-ws` protocol.
    pub fn first_error(&self) -> impl Serialize + '_ {
        self.response.errors.first()
    }

    /// Counts the response here if it is too large to be sent.
    #[must_use]
    pub(super) fn counted(self, oversized: &Counter) -> Self {
        Self { oversized: Some(oversized.clone()), ..self }
    }

    /// Appends the response as JSON, or an error if it is larger than [`MAX_RESPONSE_BYTES`].
    pub fn write(&self, out: &mut Vec<u8>) {
        let start = out.len();
        if serde_json::to_writer(Bounded { out, left: MAX_RESPONSE_BYTES }, self).is_ok() {
            return;
        }
        out.truncate(start);
        out.shrink_to_fit();
        if let Some(counter) = &self.oversized {
            counter.inc();
        }
        let message = format!("the response is larger than {MAX_RESPONSE_BYTES} bytes: request less at a time");
        let error = Self::stopped(RequestError::too_large(message));
        serde_json::to_writer(out, &error).expect("an error is always JSON");
    }
}

impl From<RequestError> for GraphQLResponse {
    fn from(request_error: RequestError) -> Self {
        let RequestError { code, message, field, position } = request_error;
        let mut error = ServerError::new(message, position);
        let extensions = error.extensions.get_or_insert_default();
        extensions.set("code", code);
        if let Some(field) = field {
            extensions.set("field", field);
        }
        Self { response: Response::from_errors(vec![error]), is_request_error: true, code: Some(code), oversized: None }
    }
}

impl Serialize for GraphQLResponse {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        if !self.response.errors.is_empty() {
            // First, so that a reader sees them above a long `data`.
            map.serialize_entry("errors", &self.response.errors)?;
        }
        if !self.is_request_error {
            map.serialize_entry("data", &self.response.data)?;
        }
        if !self.response.extensions.is_empty() {
            map.serialize_entry("extensions", &self.response.extensions)?;
        }
        map.end()
    }
}

/// A writer that fails at the first byte above its limit. A response is always valid JSON, so serializing
/// fails for no other reason.
struct Bounded<'a> {
    out: &'a mut Vec<u8>,
    left: usize,
}

impl std::io::Write for Bounded<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.left = self.left.checked_sub(bytes.len()).ok_or(std::io::ErrorKind::FileTooLarge)?;
        self.out.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use async_graphql::PathSegment;
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
            serde_json::to_value(&refused).unwrap(),
            json!({"errors": [{"message": "Unknown field", "extensions": {"code": "BAD_USER_INPUT"}}]})
        );
        let executed = response(ServerError::new("secret", None).with_path(vec![PathSegment::Field("me".into())]));
        assert_eq!(
            serde_json::to_value(&executed).unwrap(),
            json!({
                "errors": [{"message": "internal error", "path": ["me"], "extensions": {"code": "INTERNAL"}}],
                "data": null,
            })
        );
    }
}
