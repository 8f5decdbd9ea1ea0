//! A line in the log for each request, or for each that is refused (`LOG_REQUESTS`).
//!
//! Invariant: a line never has what may be secret: no header, no query string, no path that the server does not have, no
//! variable, and no text that may quote one of them.

use std::time::{Duration, Instant};

use axum::http::{Extensions, Method};
use axum::response::Response;
use hyper::body::Body as _;
use tracing::Span;

use super::log_limit::RequestLog;
use super::{HttpState, broker_auth, measure};
use crate::graphql::engine::{Caller, Prepared};
use crate::graphql::request_error::RequestError;
use crate::graphql::response::GraphQLResponse;
use crate::hub::Published;
use crate::ids::UserId;
use crate::logging::rounded;
use crate::traces::{Span as TraceSpan, SpanKind, TraceContext, Traces};

/// Longest name of an operation that is logged.
const MAX_NAME_BYTES: usize = 64;
/// Codes of single fields that count as a refusal: the others are part of a normal use of the API.
const REFUSED_FIELDS: [&str; 5] = ["UNAUTHENTICATED", "FORBIDDEN", "NOT_FOUND", "RATE_LIMITED", "UNAVAILABLE"];

/// What the line says of an operation; the extension of a response.
#[derive(Debug, Clone, Default)]
pub(super) struct Logged {
    kind: Option<&'static str>,
    name: Option<String>,
    user: Option<UserId>,
    refusal: Option<Refusal>,
    /// When the operation began; of traced streams only.
    began: Option<Instant>,
}

/// Why a request was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    /// `extensions.code`.
    code: &'static str,
    /// A fixed text.
    detail: Option<&'static str>,
    /// The field that was refused, where others were not.
    field: Option<String>,
}

impl Refusal {
    pub(super) fn new(code: &'static str, detail: Option<&'static str>) -> Self {
        Self { code, detail, field: None }
    }

    pub(super) fn code(&self) -> &'static str {
        self.code
    }

    /// Nothing was executed.
    pub(super) fn of(error: &RequestError) -> Self {
        Self::new(error.code(), error.detail())
    }

    /// The whole operation or a field of it was refused.
    fn of_response(response: &GraphQLResponse) -> Option<Self> {
        let (code, field) = response.first_refusal()?;
        let is_refusal = response.is_request_error() || REFUSED_FIELDS.contains(&code);
        is_refusal.then(|| Self { code, detail: response.detail(), field: field.map(shortened) })
    }
}

fn shortened(name: &str) -> String {
    name[..name.floor_char_boundary(MAX_NAME_BYTES)].to_owned()
}

impl Logged {
    /// A request that was refused before it was an operation.
    pub(super) fn refused(user: Option<UserId>, refusal: Refusal) -> Self {
        Self { user, refusal: Some(refusal), ..Self::default() }
    }

    /// An operation that can run.
    pub(super) fn operation(prepared: &Prepared, caller: &Caller) -> Self {
        let name = prepared.name().map(shortened);
        Self { kind: Some(prepared.kind().name()), name, user: caller.user(), refusal: None, began: None }
    }

    /// The operation is refused before it runs.
    pub(super) fn refuse(self, refusal: Refusal) -> Self {
        Self { refusal: Some(refusal), ..self }
    }

    /// The operation has been executed.
    pub(super) fn executed(self, response: &GraphQLResponse) -> Self {
        Self { refusal: Refusal::of_response(response), ..self }
    }

    /// Writes the line; with a response, also its status, its time and its size.
    fn write(&self, message: &'static str, response: Option<(&Response, Duration)>) {
        let Self { kind, name, user, refusal, .. } = self;
        tracing::info!(
            status = response.map(|(response, _)| response.status().as_u16()),
            ms = response.map(|(_, took)| rounded(took.as_secs_f64() * 1e3)),
            // Unknown for a stream.
            bytes = response.and_then(|(response, _)| response.body().size_hint().exact()),
            operation = kind,
            name,
            user = user.map(tracing::field::display),
            code = refusal.as_ref().map(|refusal| refusal.code),
            detail = refusal.as_ref().and_then(|refusal| refusal.detail),
            field = refusal.as_ref().and_then(|refusal| refusal.field.as_deref()),
            "{message}"
        );
    }

    /// The same for the span of a trace.
    fn describe(&self, span: TraceSpan) -> TraceSpan {
        span.with_some("graphql.operation.type", self.kind)
            .with_some("graphql.operation.name", self.name.clone())
            .with_some("user.id", self.user.map(|user| user.to_string()))
            .with_some("error.type", self.refusal.as_ref().map(Refusal::code))
    }

    /// Adds this to a response.
    pub(super) fn on(self, mut response: Response) -> Response {
        response.extensions_mut().insert(self);
        response
    }
}

/// A path as it is logged: clients may put anything into others.
pub(super) fn path(path: &str) -> &'static str {
    broker_auth::PATHS.into_iter().find(|known| *known == path).unwrap_or_else(|| measure::route(path))
}

/// A method as it is logged.
pub(super) fn method(method: &Method) -> &'static str {
    const KNOWN: [Method; 7] =
        [Method::GET, Method::POST, Method::HEAD, Method::OPTIONS, Method::PUT, Method::PATCH, Method::DELETE];
    const NAMES: [&str; 7] = ["GET", "POST", "HEAD", "OPTIONS", "PUT", "PATCH", "DELETE"];
    KNOWN.iter().position(|known| known == method).map_or("other", |at| NAMES[at])
}

/// Logs a response with its status, unless it is none of those to be logged.
pub(super) fn log_response(log: &RequestLog, response: &Response, took: Duration) {
    let (status, logged) = (response.status(), response.extensions().get::<Logged>());
    let is_refused =
        status.is_client_error() || status.is_server_error() || logged.is_some_and(|logged| logged.refusal.is_some());
    if !log.admits(is_refused) {
        return;
    }
    let empty = Logged::default();
    let message = if is_refused { "request refused" } else { "request" };
    logged.unwrap_or(&empty).write(message, Some((response, took)));
}

/// The trace of a request, which is an extension of it.
pub(super) fn trace_of(extensions: &Extensions) -> Option<TraceContext> {
    extensions.get().copied()
}

/// The span of a request with this response.
pub(super) fn request_span(
    traces: &Traces,
    began: Instant,
    request: (&'static str, &'static str),
    response: &Response,
) -> TraceSpan {
    let ((method, path), status) = (request, response.status());
    let span = TraceSpan::new(format!("{method} {path}"), traces.time_of(began), traces.time_of(Instant::now()))
        .of_kind(SpanKind::Server)
        .with("http.request.method", method)
        .with("http.route", path)
        .with("http.response.status_code", i64::from(status.as_u16()))
        .failed(status.is_server_error());
    match response.extensions().get::<Logged>() {
        Some(logged) => logged.describe(span),
        None => span,
    }
}

/// Records an operation that began at this time and has its response, or its first one, now.
pub(super) fn record_operation(traces: &Traces, trace: TraceContext, logged: &Logged, began: Instant) {
    let (began, now) = (traces.time_of(began), traces.time_of(Instant::now()));
    traces.record_child(trace, logged.describe(TraceSpan::new(logged.kind.unwrap_or("operation"), began, now)));
}

/// The log of a socket or of a stream, whose lines have the id of its request.
#[derive(Clone)]
pub(super) struct StreamLog {
    /// `None` logs nothing.
    log: Option<RequestLog>,
    span: Span,
    traces: Traces,
    /// The trace of the request.
    trace: Option<TraceContext>,
}

impl Default for StreamLog {
    /// Logs nothing.
    fn default() -> Self {
        Self { log: None, span: Span::none(), traces: Traces::default(), trace: None }
    }
}

impl StreamLog {
    /// Call it while the request is handled.
    pub(super) fn of_request(state: &HttpState, trace: Option<TraceContext>) -> Self {
        let (log, traces) = (Some(state.log_requests.clone()), state.traces.clone());
        Self { log, span: Span::current(), traces, trace }
    }

    /// An operation begins now.
    pub(super) fn begin(&self, logged: Logged) -> Logged {
        Logged { began: self.trace.is_some().then(Instant::now), ..logged }
    }

    /// Events have been given to the connection.
    pub(super) fn delivered(&self, transport: &'static str, events: impl Iterator<Item = Published>) {
        if !self.traces.is_on() {
            return;
        }
        for Published { at, trace } in events {
            let Some(trace) = trace else { continue };
            let (began, now) = (self.traces.time_of(at), self.traces.time_of(Instant::now()));
            let span = TraceSpan::new("deliver", began, now).of_kind(SpanKind::Producer);
            self.traces.record_child(trace, span.with("smarthome.transport", transport));
        }
    }

    fn admits(&self, is_refused: bool) -> bool {
        self.log.as_ref().is_some_and(|log| log.admits(is_refused))
    }

    /// The span of the request.
    pub(super) fn span(&self) -> &Span {
        &self.span
    }

    /// Logs an operation after its first response.
    pub(super) fn operation(&self, logged: &Logged) {
        if let (Some(trace), Some(began)) = (self.trace, logged.began) {
            record_operation(&self.traces, trace, logged, began);
        }
        let is_refused = logged.refusal.is_some();
        if self.admits(is_refused) {
            let message = if is_refused { "operation refused" } else { "operation" };
            self.span.in_scope(|| logged.write(message, None));
        }
    }

    /// Logs that the server closes a socket.
    pub(super) fn closed(&self, user: Option<UserId>, close: &ClosedSocket, open_for: Duration) {
        if !self.admits(close.is_refusal) {
            return;
        }
        let ClosedSocket { close_code, reason, detail, .. } = *close;
        let (user, seconds) = (user.map(tracing::field::display), rounded(open_for.as_secs_f64()));
        self.span.in_scope(|| tracing::info!(close_code, reason, detail, user, seconds, "socket closed"));
    }
}

/// Why a socket is closed.
pub(super) struct ClosedSocket {
    pub(super) close_code: u16,
    /// The reason in `smarthome_sockets_closed_total`.
    pub(super) reason: &'static str,
    /// A fixed text.
    pub(super) detail: Option<&'static str>,
    /// Whether the client has done something that the server does not accept.
    pub(super) is_refusal: bool,
}
