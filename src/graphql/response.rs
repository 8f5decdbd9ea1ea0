//! What a client is told: every answer of the library passes here before it leaves.
//!
//! Invariants: each error has `extensions.code`; at most [`MAX_ERRORS`] errors of together about
//! [`MAX_ERROR_BYTES`] leave, and none echoes the document; a request error has no `data` key; an
//! error no feature has coded says nothing of the inside.

use async_graphql::{Response, ServerError, Value};
use prometheus_client::metrics::counter::Counter;
use serde::ser::{Serialize, SerializeMap, Serializer};

use super::request_error::{BAD_USER_INPUT, RequestError};

/// Most errors in one answer.
pub const MAX_ERRORS: usize = 10;
/// Most bytes of all errors of one answer, as JSON.
pub const MAX_ERROR_BYTES: usize = 3_800;
/// Most bytes of one answer, as JSON.
pub const MAX_RESPONSE_BYTES: usize = 8 << 20;
/// Most bytes of one error's text.
const MAX_MESSAGE_BYTES: usize = 400;
/// Most source positions of one error.
const MAX_LOCATIONS: usize = 4;

const INTERNAL: &str = "INTERNAL";
/// How the library begins to tell that a value is of another kind.
const EXPECTED_TYPE: &str = "Expected input type \"";

impl From<RequestError> for GraphQLResponse {
    fn from(refusal: RequestError) -> Self {
        let mut error = ServerError::new(refusal.message, refusal.position);
        let extensions = error.extensions.get_or_insert_default();
        extensions.set("code", refusal.code);
        if let Some(field) = refusal.field {
            extensions.set("field", field);
        }
        Self {
            response: Response::from_errors(vec![error]),
            request_error: true,
            code: Some(refusal.code),
            too_large: None,
        }
    }
}

/// One answer of one operation, ready to be written.
#[derive(Debug)]
pub struct GraphQLResponse {
    response: Response,
    request_error: bool,
    /// The code of a refusal, which decides the HTTP status.
    code: Option<&'static str>,
    /// Counts it, should it be too large to leave.
    too_large: Option<Counter>,
}

impl GraphQLResponse {
    /// Takes what the library says and makes it fit to leave.
    pub(super) fn new(mut response: Response) -> Self {
        if response.errors.is_empty() {
            return Self { response, request_error: false, code: None, too_large: None };
        }
        // Errors of an execution name the field they happened in; those of a request can't.
        let request_error = response.data == Value::Null && response.errors.iter().all(|e| e.path.is_empty());
        response.errors.truncate(MAX_ERRORS);
        response.errors.iter_mut().for_each(sanitize);
        let mut left = MAX_ERROR_BYTES;
        let mut first = true;
        response.errors.retain_mut(|error| {
            let size = serde_json::to_vec(error).map_or(usize::MAX, |json| json.len());
            let fits = size <= left;
            if !fits && std::mem::take(&mut first) && left == MAX_ERROR_BYTES {
                // The first one alone is too large, by the names in its path: keep its code and text.
                error.path.clear();
                left = 0;
                return true;
            }
            first = false;
            left = if fits { left - size } else { 0 };
            fits
        });
        Self { response, request_error, code: None, too_large: None }
    }

    /// An answer without errors.
    #[cfg(test)]
    pub(crate) fn for_test(data: Value) -> Self {
        Self::new(Response::new(data))
    }

    /// The answer of an operation that was stopped midway: one error and no data.
    pub(super) fn stopped(refusal: RequestError) -> Self {
        Self { request_error: false, ..refusal.into() }
    }

    /// Whether the request itself is refused: nothing was executed and there is no `data`.
    pub fn is_request_error(&self) -> bool {
        self.request_error
    }

    /// The code of a refused request.
    pub fn error_code(&self) -> Option<&'static str> {
        self.code
    }

    /// Whether this, as a subscription's first answer, says that it could not be started: nothing
    /// below its one field was reached.
    pub fn is_failed_start(&self) -> bool {
        let errors = &self.response.errors;
        self.response.data == Value::Null && !errors.is_empty() && errors.iter().all(|e| e.path.len() <= 1)
    }

    /// The errors alone, as the WebSocket protocol's `error` message carries them.
    pub fn errors(&self) -> impl Serialize + '_ {
        &self.response.errors
    }

    /// The first error alone, as the older WebSocket protocol's `error` message carries it.
    pub fn first_error(&self) -> impl Serialize + '_ {
        self.response.errors.first()
    }

    /// Counted here, should it be too large to leave.
    #[must_use]
    pub(super) fn counted(self, too_large: &Counter) -> Self {
        Self { too_large: Some(too_large.clone()), ..self }
    }

    /// Appends the answer as JSON; in place of one that is larger than [`MAX_RESPONSE_BYTES`] an error.
    pub fn write(&self, out: &mut Vec<u8>) {
        let start = out.len();
        if serde_json::to_writer(Bounded { out, left: MAX_RESPONSE_BYTES }, self).is_ok() {
            return;
        }
        out.truncate(start);
        out.shrink_to_fit();
        if let Some(counter) = &self.too_large {
            counter.inc();
        }
        let message = format!("the answer is larger than {MAX_RESPONSE_BYTES} bytes: ask for less at a time");
        let instead = Self::stopped(RequestError::too_large(message));
        serde_json::to_writer(out, &instead).expect("an error is always JSON");
    }
}

/// Takes so many bytes and fails at the first one over it: an answer is always JSON, so nothing else does.
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

impl Serialize for GraphQLResponse {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        if !self.response.errors.is_empty() {
            // First, so that a person sees them above a long `data`.
            map.serialize_entry("errors", &self.response.errors)?;
        }
        if !self.request_error {
            map.serialize_entry("data", &self.response.data)?;
        }
        if !self.response.extensions.is_empty() {
            map.serialize_entry("extensions", &self.response.extensions)?;
        }
        map.end()
    }
}

/// Gives an error its code and keeps its text short.
fn sanitize(error: &mut ServerError) {
    error.locations.truncate(MAX_LOCATIONS);
    hide_value(&mut error.message);
    let code = error.extensions.as_ref().and_then(|e| e.get("code"));
    if code.is_none() {
        // The library's own: validation has no path, a refused value says so, all else is a fault of ours.
        let refused = error.path.is_empty() || is_about_input(&error.message);
        if refused {
            let field = named_argument(&error.message).map(str::to_owned);
            let extensions = error.extensions.get_or_insert_default();
            extensions.set("code", BAD_USER_INPUT);
            if let Some(field) = field {
                extensions.set("field", field);
            }
        } else {
            tracing::error!(error = error.message, path = ?error.path, "a resolver failed without a code");
            error.message = "internal error".to_owned();
            error.extensions.get_or_insert_default().set("code", INTERNAL);
        }
    }
    if error.message.len() > MAX_MESSAGE_BYTES {
        let end = error.message.floor_char_boundary(MAX_MESSAGE_BYTES);
        error.message.truncate(end);
        error.message.push('…');
    }
}

/// Cuts off the value in `Expected input type "LoginInput", found …`: it may be a password that stands in
/// the wrong place, and an error is read by more people than its sender.
fn hide_value(message: &mut String) {
    let Some(rest) = message.strip_prefix(EXPECTED_TYPE) else { return };
    if let Some((name, _)) = rest.split_once('"') {
        *message = format!("{EXPECTED_TYPE}{name}\".");
    }
}

/// The library's frames around a value it, or a scalar of ours, refused.
fn is_about_input(message: &str) -> bool {
    [EXPECTED_TYPE, "Failed to parse \"", "Variable ", "The \"first\"", "The \"last\"", "Invalid value for argument"]
        .iter()
        .any(|frame| message.starts_with(frame))
}

/// `input.email` of `Invalid value for argument "input.email", …`.
fn named_argument(message: &str) -> Option<&str> {
    let rest = message.strip_prefix("Invalid value for argument \"")?;
    rest.split_once('"').map(|(name, _)| name).filter(|name| name.len() <= 100)
}

#[cfg(test)]
mod tests {
    use async_graphql::PathSegment;

    use super::*;

    fn json(answer: &GraphQLResponse) -> serde_json::Value {
        serde_json::to_value(answer).unwrap()
    }

    fn failed(message: &str, path: &[&str]) -> ServerError {
        let path = path.iter().map(|name| PathSegment::Field((*name).to_owned())).collect();
        ServerError::new(message, None).with_path(path)
    }

    #[test]
    fn a_request_error_has_no_data_and_an_executed_one_has() {
        let refused = GraphQLResponse::new(Response::from_errors(vec![failed("Unknown field", &[])]));
        assert!(refused.is_request_error());
        assert_eq!(
            json(&refused),
            serde_json::json!({"errors": [{"message": "Unknown field", "extensions": {"code": "BAD_USER_INPUT"}}]})
        );
        let executed = GraphQLResponse::new(Response::from_errors(vec![failed("secret detail", &["me"])]));
        assert_eq!(
            json(&executed),
            serde_json::json!({
                "errors": [{"message": "internal error", "path": ["me"], "extensions": {"code": "INTERNAL"}}],
                "data": null,
            })
        );
    }

    #[test]
    fn a_refused_value_names_its_field() {
        let text = r#"Invalid value for argument "input.email", expected type "String""#;
        let answer = json(&GraphQLResponse::new(Response::from_errors(vec![failed(text, &[])])));
        assert_eq!(answer["errors"][0]["extensions"]["field"], "input.email");
        let text = r#"Failed to parse "ID": not an id"#;
        let answer = json(&GraphQLResponse::new(Response::from_errors(vec![failed(text, &["device"])])));
        assert_eq!(answer["errors"][0]["extensions"]["code"], "BAD_USER_INPUT");
    }

    #[test]
    fn a_refused_value_is_not_said_again() {
        for path in [&[][..], &["login"]] {
            let text = r#"Expected input type "LoginInput", found "my password". (occurred while parsing "X")"#;
            let answer = json(&GraphQLResponse::new(Response::from_errors(vec![failed(text, path)])));
            assert_eq!(answer["errors"][0]["message"], r#"Expected input type "LoginInput"."#);
            assert_eq!(answer["errors"][0]["extensions"]["code"], "BAD_USER_INPUT");
        }
    }

    #[test]
    fn many_or_huge_errors_stay_within_4_kib() {
        let long = "x".repeat(20_000);
        for errors in [
            (0..500).map(|_| failed(&long, &[])).collect::<Vec<_>>(),
            (0..500).map(|_| failed("short", &[&long])).collect(),
            vec![failed("ä".repeat(3000).as_str(), &["a"])],
            (0..9).map(|_| failed(&long, &["b"; 90])).collect(),
        ] {
            let mut out = Vec::new();
            GraphQLResponse::new(Response::from_errors(errors)).write(&mut out);
            assert!(out.len() <= 4 << 10, "{} bytes", out.len());
            assert!(json_errors(&out) >= 1);
        }
    }

    fn json_errors(out: &[u8]) -> usize {
        serde_json::from_slice::<serde_json::Value>(out).unwrap()["errors"].as_array().unwrap().len()
    }
}
