//! GraphQL over HTTP: one operation per request by POST, queries by GET too.
//!
//! async-graphql-axum's request extractors and response type are not used. They accept batches, form posts and any
//! content type without a size limit, always answer 200 in one media type, print parse errors as Rust's debug
//! text, and keep `data: null` beside a request error. Its stock services run mutations by GET and never time out a
//! socket.

use std::time::Instant;

use axum::body::{Body, Bytes};
use axum::http::{Method, Request, StatusCode, request::Parts};
use axum::response::{IntoResponse, Redirect, Response};
use http_body_util::{BodyExt, LengthLimitError, Limited};

use super::caller::RefusedCaller;
use super::negotiate::{Accepted, Media, accepted, is_json, prefers_html};
use super::request_log::{self, Logged, Refusal, trace_of};
use super::{HttpState, caller, compression, pages, responses, streaming};
use crate::error::Error;
use crate::graphql::OperationKind;
use crate::graphql::engine::{Caller, Prepared};
use crate::graphql::request::GraphQLRequest;
use crate::graphql::request_error::{NOT_PERSISTED, RequestError};
use crate::graphql::response::GraphQLResponse;
use crate::traces::TraceContext;

pub(super) async fn handle(state: &HttpState, request: Request<Body>) -> Response {
    let (parts, body) = request.into_parts();
    if parts.method != Method::POST && parts.method != Method::GET {
        return responses::method_not_allowed(Media::Json, "GET, POST");
    }
    if state.graphiql && is_page_visit(&parts) {
        return Redirect::temporary(pages::GRAPHIQL).into_response();
    }
    let accepted = accepted(&parts.headers);
    let media = accepted.single.unwrap_or(Media::Json);
    if accepted.single.is_none() && accepted.streaming.is_none() {
        return responses::problem(
            StatusCode::NOT_ACCEPTABLE,
            "BAD_USER_INPUT",
            "accept application/graphql-response+json, application/json, text/event-stream, \
             or multipart/mixed with subscriptionSpec=\"1.0\"",
        );
    }
    let refuse = |RefusedCaller { error, logged }| {
        state.metrics.count_http_rejection(error.code());
        logged.on(responses::auth_error(media, &error))
    };
    let (caller, refused) = match caller::caller(&parts, state).await {
        Ok(caller) => (caller, None),
        Err(refused) if matches!(refused.error, Error::TooSoon { .. }) => return refuse(refused),
        // Decided below: an operation may need no token.
        Err(refused) => (caller::anonymous(&parts), Some(refused)),
    };
    let prepared = prepare(state, &parts, body, accepted).await;
    let may_need_no_token = match &prepared {
        Ok(prepared) => prepared.has_own_credentials(),
        // The client sends its document then, which may be such an operation.
        Err(unprepared) => unprepared.refusal.code() == NOT_PERSISTED,
    };
    match (prepared, refused) {
        (_, Some(refused)) if !may_need_no_token => refuse(refused),
        (Ok(prepared), _) => run(state, &parts, accepted, prepared, caller).await,
        (Err(Unprepared { refusal, response }), _) => {
            state.metrics.count_http_rejection(refusal.code());
            Logged::refused(caller.user(), refusal).on(response)
        }
    }
}

/// Why a request can't be prepared.
struct Unprepared {
    refusal: Refusal,
    response: Response,
}

impl Unprepared {
    fn new(media: Media, status: StatusCode, error: RequestError) -> Self {
        Self { refusal: Refusal::of(&error), response: responses::error(media, status, error) }
    }

    /// The request is not well-formed: 400 in every media type.
    fn bad(media: Media, error: RequestError) -> Self {
        Self::new(media, StatusCode::BAD_REQUEST, error)
    }
}

/// Whether a browser was led to the API by its address.
fn is_page_visit(parts: &Parts) -> bool {
    parts.method == Method::GET && parts.uri.query().is_none() && prefers_html(&parts.headers)
}

/// The operation of a request.
async fn prepare(state: &HttpState, parts: &Parts, body: Body, accepted: Accepted) -> Result<Prepared, Unprepared> {
    let media = accepted.single.unwrap_or(Media::Json);
    let graphql_request = read_request(state, parts, body, media).await?;
    let refusal = |error: RequestError| Unprepared {
        refusal: Refusal::of(&error),
        response: responses::request_error(accepted.single, error),
    };
    state.engine.prepare(graphql_request).map_err(refusal)
}

/// The request's parameters.
async fn read_request(
    state: &HttpState,
    parts: &Parts,
    body: Body,
    media: Media,
) -> Result<GraphQLRequest, Unprepared> {
    let bad = |error| Unprepared::bad(media, error);
    let graphql_request = if parts.method == Method::GET {
        GraphQLRequest::from_url_query(parts.uri.query().unwrap_or_default()).map_err(bad)?
    } else {
        if !is_json(&parts.headers) {
            let error = RequestError::new("BAD_USER_INPUT", "send the request as application/json in UTF-8");
            return Err(Unprepared::new(media, StatusCode::UNSUPPORTED_MEDIA_TYPE, error));
        }
        let body = read_body(state, body, media).await?;
        let text = std::str::from_utf8(&body)
            .map_err(|_| bad(RequestError::new("BAD_USER_INPUT", "the request is not valid UTF-8")))?;
        GraphQLRequest::from_json(text).map_err(bad)?
    };
    if graphql_request.query.is_none() && graphql_request.persisted.is_none() {
        return Err(bad(RequestError::parameter("query", "the request has no query")));
    }
    Ok(graphql_request)
}

async fn read_body(state: &HttpState, body: Body, media: Media) -> Result<Bytes, Unprepared> {
    let limits = &state.limits;
    let bad_input = |message: &'static str| RequestError::new("BAD_USER_INPUT", message);
    match tokio::time::timeout(limits.body_timeout, Limited::new(body, limits.body_bytes).collect()).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            let message = format!("the request is larger than {} KiB", limits.body_bytes >> 10);
            Err(Unprepared::new(media, StatusCode::PAYLOAD_TOO_LARGE, RequestError::new("PAYLOAD_TOO_LARGE", message)))
        }
        Ok(Err(_)) => Err(Unprepared::bad(media, bad_input("the request's body can't be read"))),
        Err(_) => {
            let error = bad_input("the request's body took too long");
            Err(Unprepared::new(media, StatusCode::REQUEST_TIMEOUT, error))
        }
    }
}

/// Runs a prepared operation in a form the client accepts.
async fn run(state: &HttpState, parts: &Parts, accepted: Accepted, prepared: Prepared, caller: Caller) -> Response {
    let (kind, logged, trace) = (prepared.kind(), Logged::operation(&prepared, &caller), trace_of(&parts.extensions));
    if parts.method == Method::GET && kind == OperationKind::Mutation {
        let media = accepted.single.unwrap_or(Media::Json);
        return logged.on(responses::with_other_method(media, "POST", "a mutation needs the method POST"));
    }
    match (kind, accepted.single, accepted.streaming) {
        // A query has one response, so a single document is preferred to a stream.
        (OperationKind::Query, Some(media), _) => {
            let (response, logged) = execute(state, prepared, caller, logged, trace).await;
            logged.on(responses::query(media, response, compression::accepts_gzip(&parts.headers)).await)
        }
        (OperationKind::Mutation, Some(media), _) => {
            let (response, logged) = execute(state, prepared, caller, logged, trace).await;
            logged.on(responses::mutation(media, response))
        }
        (_, _, Some(streaming)) => streaming::stream(state, streaming, prepared, caller, logged, trace),
        (_, media, None) => logged.on(responses::error(
            media.unwrap_or(Media::Json),
            StatusCode::NOT_ACCEPTABLE,
            RequestError::parameter(
                "query",
                "a subscription needs a WebSocket, or Accept: text/event-stream, \
                 or Accept: multipart/mixed;subscriptionSpec=\"1.0\"",
            ),
        )),
    }
}

/// Executes a query or a mutation, with a span of its own in the trace of the request.
async fn execute(
    state: &HttpState,
    prepared: Prepared,
    caller: Caller,
    logged: Logged,
    trace: Option<TraceContext>,
) -> (GraphQLResponse, Logged) {
    let began = trace.is_some().then(Instant::now);
    let response = state.engine.execute(prepared, caller).await;
    let logged = logged.executed(&response);
    if let (Some(trace), Some(began)) = (trace, began) {
        request_log::record_operation(&state.traces, trace, &logged, began);
    }
    (response, logged)
}
