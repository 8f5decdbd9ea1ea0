//! HTTP responses: the one mapping from an outcome to a status code. Every error is JSON in the shape of a GraphQL
//! error.

use std::borrow::Cow;

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;

use super::compression;
use super::negotiate::Media;
use super::response_body;
use crate::error::Error;
use crate::graphql::request_error::RequestError;
use crate::graphql::response::{GraphQLResponse, Written};

const JSON: HeaderValue = HeaderValue::from_static("application/json; charset=utf-8");
const GRAPHQL_RESPONSE: HeaderValue = HeaderValue::from_static("application/graphql-response+json; charset=utf-8");
pub(super) const UNAVAILABLE: &str = "service temporarily unavailable, try again";

impl Media {
    fn header(self) -> HeaderValue {
        match self {
            Self::Json => JSON,
            Self::GraphqlResponse => GRAPHQL_RESPONSE,
        }
    }
}

/// The status of a response to a well-formed GraphQL request.
///
/// The public audit of GraphQL over HTTP expects 400 and 200 where the newest draft says 422 and 294. Both satisfy
/// the draft's MUSTs, and clients know the former.
fn status(media: Media, response: &GraphQLResponse) -> StatusCode {
    match (media, response.error_code()) {
        _ if !response.is_request_error() => StatusCode::OK,
        (_, Some("PAYLOAD_TOO_LARGE")) => StatusCode::PAYLOAD_TOO_LARGE,
        (_, Some("RATE_LIMITED")) => StatusCode::TOO_MANY_REQUESTS,
        (_, Some("UNAVAILABLE")) => StatusCode::SERVICE_UNAVAILABLE,
        // Clients of `application/json` take any status but 200 for "not a response of the GraphQL server".
        (Media::Json, _) => StatusCode::OK,
        (Media::GraphqlResponse, _) => StatusCode::BAD_REQUEST,
    }
}

/// The response to a mutation, which is not compressed.
pub(super) fn mutation(media: Media, response: GraphQLResponse) -> Response {
    let (outcome, written) = in_segments(media, response);
    outcome.response(media, response_body::body(written))
}

/// The response to a query, compressed if the client accepts that and it pays.
pub(super) async fn query(media: Media, response: GraphQLResponse, accepts_gzip: bool) -> Response {
    let (outcome, written) = in_segments(media, response);
    if written.n_bytes() < compression::MIN_BYTES {
        return outcome.response(media, response_body::body(written));
    }
    let written = if accepts_gzip { compression::gzip(written).await } else { written };
    let mut response = outcome.response(media, response_body::body(written));
    let headers = response.headers_mut();
    headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    if accepts_gzip {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    response
}

/// What the status line and the headers say of an operation.
struct Outcome {
    status: StatusCode,
    retry_after_seconds: Option<u64>,
}

impl Outcome {
    fn of(media: Media, response: &GraphQLResponse) -> Self {
        Self { status: status(media, response), retry_after_seconds: response.retry_after_seconds() }
    }

    fn response(&self, media: Media, body: Body) -> Response {
        let mut response = with_body(media, self.status, body);
        if let Some(seconds) = self.retry_after_seconds {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

/// The response as JSON, or the error if there is no memory for it.
fn in_segments(media: Media, response: GraphQLResponse) -> (Outcome, Written) {
    let outcome = Outcome::of(media, &response);
    match response.into_written() {
        Ok(written) => (outcome, written),
        Err(refused) => (Outcome::of(media, &refused), in_memory(&refused).into()),
    }
}

/// A request error of a well-formed request. A client that accepts only streams gets JSON with an error status,
/// which it can't take for the start of a stream.
pub(super) fn request_error(media: Option<Media>, error: RequestError) -> Response {
    let response = error.into();
    match media {
        Some(media) => write(media, status(media, &response), &response),
        None => write(Media::Json, status(Media::GraphqlResponse, &response), &response),
    }
}

/// An error with this status.
pub(super) fn error(media: Media, status: StatusCode, error: RequestError) -> Response {
    write(media, status, &error.into())
}

/// An error outside GraphQL, in the same shape.
pub(super) fn problem(status: StatusCode, code: &'static str, message: impl Into<Cow<'static, str>>) -> Response {
    problem_in(Media::Json, status, code, message)
}

/// An error outside GraphQL, for a client that accepts this media type.
pub(super) fn problem_in(
    media: Media,
    status: StatusCode,
    code: &'static str,
    message: impl Into<Cow<'static, str>>,
) -> Response {
    error(media, status, RequestError::new(code, message))
}

/// The path exists, but not with this method.
pub(super) fn method_not_allowed(media: Media, allow: &'static str) -> Response {
    with_other_method(media, allow, "this path does not take this method: see Allow")
}

/// What the request asks for needs another method.
pub(super) fn with_other_method(media: Media, allow: &'static str, message: &'static str) -> Response {
    let mut response = problem_in(media, StatusCode::METHOD_NOT_ALLOWED, "BAD_USER_INPUT", message);
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allow));
    response
}

/// The caller's credentials are invalid, can't be checked now, or come too often. Missing credentials are no error
/// here: the schema decides what an anonymous caller may do.
pub(super) fn auth_error(media: Media, refused: &Error) -> Response {
    let request_error = match refused {
        Error::Unauthenticated(reason, message) => RequestError::unauthenticated(*reason, message),
        Error::TooSoon { retry_after_seconds } => return rate_limited(media, *retry_after_seconds),
        // The first request of an external identity links it to an account; repeating the request is safe.
        Error::Unavailable(_) | Error::OutcomeUnknown(_) => {
            return problem_in(media, StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE", UNAVAILABLE);
        }
        _ => return problem_in(media, StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL", "internal error"),
    };
    let mut response = error(media, StatusCode::UNAUTHORIZED, request_error);
    response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer error=\"invalid_token\""));
    response
}

/// Too many requests of one user or one address.
fn rate_limited(media: Media, retry_after_seconds: u64) -> Response {
    let message = "too many requests: see Retry-After for when to try again";
    let limited = RequestError::new("RATE_LIMITED", message).retry_after(retry_after_seconds);
    let mut response = error(media, StatusCode::TOO_MANY_REQUESTS, limited);
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(retry_after_seconds));
    response
}

/// The user or the address has as many open as it may.
pub(super) fn quota_exceeded(media: Media, message: &'static str) -> Response {
    problem_in(media, StatusCode::TOO_MANY_REQUESTS, "RATE_LIMITED", message)
}

fn write(media: Media, status: StatusCode, response: &GraphQLResponse) -> Response {
    with_body(media, status, in_memory(response).into())
}

fn in_memory(response: &GraphQLResponse) -> Vec<u8> {
    let mut json = Vec::with_capacity(512);
    response.write(&mut json);
    json
}

fn with_body(media: Media, status: StatusCode, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, media.header());
    response
}

/// A JSON document that is not a GraphQL response.
pub(super) fn json(status: StatusCode, value: &impl serde::Serialize) -> Response {
    let body = serde_json::to_vec(value).expect("our own documents are always JSON");
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, JSON);
    response
}

pub(super) fn text(content_type: &'static str, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
