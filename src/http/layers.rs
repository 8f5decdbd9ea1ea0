//! Layers around every route: request ids, security headers, CORS, and an error response when a handler panics.

use std::any::Any;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use tower_http::cors::{AllowOrigin, CorsLayer};
use tracing::Instrument;
use uuid::Uuid;

use super::client::Client;
use super::{request_log, responses};
use crate::settings::CorsSettings;
use crate::traces::{RequestTrace, Traces};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const TRACE_PARENT: HeaderName = HeaderName::from_static("traceparent");
/// What asks here again and again: these requests have no traces.
const PROBES: [&str; 4] = ["/livez", "/readyz", "/health", "/metrics"];
/// Longest request id accepted from the client.
const MAX_REQUEST_ID_BYTES: usize = 64;
/// Content policy of responses that are not pages: should a browser render one, it loads nothing.
const LOAD_NOTHING: &str = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
/// One year, for this host only: subdomains may belong to other services.
const STRICT_TRANSPORT: HeaderValue = HeaderValue::from_static("max-age=31536000");
/// Set unless the handler has set its own, as the pages do with their content policy.
const SECURITY: [(HeaderName, HeaderValue); 7] = [
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
    (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(LOAD_NOTHING)),
    // Other sites may read responses through CORS only: not as a script, an image or a window they opened.
    (HeaderName::from_static("cross-origin-resource-policy"), HeaderValue::from_static("same-origin")),
    (HeaderName::from_static("cross-origin-opener-policy"), HeaderValue::from_static("same-origin")),
    (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
];

/// Gives the request an id, runs it in a span with that id, records its trace if it has one, and adds the response headers.
pub(super) async fn wrap_request(State(traces): State<Traces>, mut request: Request, next: Next) -> Response {
    let trace = begin_trace(&traces, &request);
    let began = trace.map(|trace| {
        request.extensions_mut().insert(trace.context);
        Instant::now()
    });
    let id = request_id(&request, trace.as_ref());
    let id_text = id.to_str().unwrap_or_default();
    let client = request.extensions().get::<Client>().copied();
    let by_https = client.is_some_and(|client| client.by_https);
    let client = client.map(|client| tracing::field::display(client.addr));
    let (method, path) = (request_log::method(request.method()), request_log::path(request.uri().path()));
    let trace_id = trace.map(|trace| tracing::field::display(trace.context));
    let span = tracing::info_span!("http", request.id = id_text, trace.id = trace_id, client, method, path);
    let mut response = next.run(request).instrument(span).await;
    if let (Some(trace), Some(began)) = (&trace, began) {
        let span = request_log::request_span(&traces, began, (method, path), &response);
        traces.record_request(trace, span.with_some("smarthome.request.id", own_id(&id, trace)));
    }
    let headers = response.headers_mut();
    headers.reserve(SECURITY.len() + 4);
    for (name, value) in SECURITY {
        headers.entry(name).or_insert(value);
    }
    if by_https {
        headers.insert(header::STRICT_TRANSPORT_SECURITY, STRICT_TRANSPORT);
    }
    headers.insert(REQUEST_ID, id);
    response
}

fn begin_trace(traces: &Traces, request: &Request) -> Option<RequestTrace> {
    if !traces.is_on() || PROBES.contains(&request.uri().path()) {
        return None;
    }
    traces.begin_request(request.headers().get(&TRACE_PARENT).map(HeaderValue::as_bytes))
}

/// The id that the client gave the request beside its trace.
fn own_id(id: &HeaderValue, trace: &RequestTrace) -> Option<String> {
    id.to_str().ok().filter(|id| *id != trace.context.to_string()).map(str::to_owned)
}

/// The client's own id if it is safe to log, otherwise that of the trace, or a new one.
fn request_id(request: &Request, trace: Option<&RequestTrace>) -> HeaderValue {
    let is_safe = |value: &&HeaderValue| {
        let bytes = value.as_bytes();
        !bytes.is_empty()
            && bytes.len() <= MAX_REQUEST_ID_BYTES
            && bytes.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
    };
    match request.headers().get(&REQUEST_ID).filter(is_safe) {
        Some(id) => id.clone(),
        None => match trace {
            Some(trace) => HeaderValue::from_str(&trace.context.to_string()).expect("digits"),
            None => new_request_id(),
        },
    }
}

/// A random UUID. It only tells the requests of a log apart, so it needs no secure random numbers, which would cost a
/// system call.
fn new_request_id() -> HeaderValue {
    let id = uuid::Builder::from_random_bytes(fastrand::u128(..).to_ne_bytes()).into_uuid();
    HeaderValue::from_str(id.hyphenated().encode_lower(&mut Uuid::encode_buffer())).expect("a UUID is visible ASCII")
}

/// Request headers of the usual clients and of their tracing and error reporting.
const CLIENT_HEADERS: [HeaderName; 15] = [
    header::ACCEPT,
    header::AUTHORIZATION,
    header::CACHE_CONTROL,
    header::CONTENT_TYPE,
    REQUEST_ID,
    HeaderName::from_static("x-requested-with"),
    HeaderName::from_static("apollo-require-preflight"),
    HeaderName::from_static("apollographql-client-name"),
    HeaderName::from_static("apollographql-client-version"),
    HeaderName::from_static("x-apollo-operation-name"),
    HeaderName::from_static("x-apollo-operation-type"),
    HeaderName::from_static("traceparent"),
    HeaderName::from_static("tracestate"),
    HeaderName::from_static("baggage"),
    HeaderName::from_static("sentry-trace"),
];
/// How long a browser may remember what a page is allowed.
const PREFLIGHT_LIFETIME: Duration = Duration::from_secs(3600);

/// Pages of these origins may call us. Without credentials: the API uses no cookies.
pub(super) fn cors(settings: Arc<CorsSettings>) -> CorsLayer {
    let more = settings.headers.iter().filter_map(|name| HeaderName::from_bytes(name.as_bytes()).ok());
    let headers: Vec<HeaderName> = CLIENT_HEADERS.into_iter().chain(more).collect();
    let is_allowed = move |origin: &HeaderValue, _: &Parts| origin.to_str().is_ok_and(|origin| settings.allows(origin));
    CorsLayer::new()
        .allow_origin(AllowOrigin::predicate(is_allowed))
        .allow_methods([Method::GET, Method::POST])
        .allow_headers(headers)
        .expose_headers([REQUEST_ID, header::RETRY_AFTER])
        .max_age(PREFLIGHT_LIFETIME)
}

/// The response of a handler that panicked.
pub(super) fn internal_error(_panic: Box<dyn Any + Send + 'static>) -> Response<Body> {
    tracing::error!("a request handler panicked");
    responses::problem(StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL", "internal error")
}
