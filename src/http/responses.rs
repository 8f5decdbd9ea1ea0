//! Answers as HTTP: the one mapping of an outcome to a status, and JSON for every refusal.

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;

use super::negotiate::Media;
use crate::error::Error;
use crate::graphql::request_error::RequestError;
use crate::graphql::response::GraphQLResponse;

const JSON: HeaderValue = HeaderValue::from_static("application/json; charset=utf-8");
const GRAPHQL_RESPONSE: HeaderValue = HeaderValue::from_static("application/graphql-response+json; charset=utf-8");

impl Media {
    fn header(self) -> HeaderValue {
        match self {
            Self::Json => JSON,
            Self::GraphqlResponse => GRAPHQL_RESPONSE,
        }
    }
}

/// The status of an answer to a well-formed GraphQL request.
///
/// The public audit of GraphQL over HTTP asks for 400 and 200 where the newest draft says 422 and
/// 294: all are right by its MUSTs, and clients know the former.
fn status(media: Media, answer: &GraphQLResponse) -> StatusCode {
    match (media, answer.error_code()) {
        _ if !answer.is_request_error() => StatusCode::OK,
        (_, Some("PAYLOAD_TOO_LARGE")) => StatusCode::PAYLOAD_TOO_LARGE,
        // In this form anything but 200 is read as "not an answer of the GraphQL server".
        (Media::Json, _) => StatusCode::OK,
        (Media::GraphqlResponse, _) => StatusCode::BAD_REQUEST,
    }
}

/// An answer to a well-formed request.
pub(super) fn answer(media: Media, answer: &GraphQLResponse) -> Response {
    write(media, status(media, answer), answer)
}

/// A refusal of a well-formed request, in a form the client takes or, for one that takes only streams, as
/// an error it can't read as the start of one.
pub(super) fn refused(media: Option<Media>, refusal: RequestError) -> Response {
    let refusal = refusal.into();
    match media {
        Some(media) => answer(media, &refusal),
        None => write(Media::Json, status(Media::GraphqlResponse, &refusal), &refusal),
    }
}

/// A refusal of the request as such, in the shape of a GraphQL error.
pub(super) fn refuse(media: Media, status: StatusCode, refusal: RequestError) -> Response {
    write(media, status, &refusal.into())
}

/// A refusal outside GraphQL, in the same shape.
pub(super) fn problem(status: StatusCode, code: &'static str, message: &'static str) -> Response {
    refuse(Media::Json, status, RequestError::new(code, message))
}

/// A method this path does not have.
pub(super) fn method_not_allowed(allow: &'static str) -> Response {
    let mut response =
        problem(StatusCode::METHOD_NOT_ALLOWED, "BAD_USER_INPUT", "this path does not take this method: see Allow");
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allow));
    response
}

/// Credentials came and are not good, or can't be judged now, or too many requests do. Missing ones are no
/// error here: the schema judges that.
pub(super) fn auth_error(error: &Error) -> Response {
    match error {
        Error::Unauthenticated(_) => {}
        Error::TooSoon { retry_after_seconds } => return rate_limited(*retry_after_seconds),
        // Whoever comes in for the first time gets an account; to come again is safe.
        Error::Unavailable(_) | Error::OutcomeUnknown(_) => {
            let message = "service temporarily unavailable, try again";
            return problem(StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE", message);
        }
        _ => return problem(StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL", "internal error"),
    }
    let mut response = problem(StatusCode::UNAUTHORIZED, "UNAUTHENTICATED", "invalid or expired access token");
    response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer error=\"invalid_token\""));
    response
}

/// Too many requests of one person or one address.
fn rate_limited(retry_after_seconds: u64) -> Response {
    let mut response = problem(
        StatusCode::TOO_MANY_REQUESTS,
        "RATE_LIMITED",
        "too many requests: see Retry-After for when to try again",
    );
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(retry_after_seconds));
    response
}

/// Somebody has all they may have open.
pub(super) fn quota_exceeded(message: &'static str) -> Response {
    problem(StatusCode::TOO_MANY_REQUESTS, "RATE_LIMITED", message)
}

fn write(media: Media, status: StatusCode, answer: &GraphQLResponse) -> Response {
    let mut body = Vec::with_capacity(512);
    answer.write(&mut body);
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, media.header());
    response
}

/// A plain JSON document that is no GraphQL answer.
pub(super) fn json(status: StatusCode, value: &impl serde::Serialize) -> Response {
    let body = serde_json::to_vec(value).expect("our own documents are always JSON");
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, JSON);
    response
}

/// Text of some kind.
pub(super) fn text(content_type: &'static str, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
