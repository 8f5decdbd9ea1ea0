//! Streamed responses over HTTP: server-sent events (distinct-connections mode) and Apollo's multipart
//! subscriptions.
//!
//! Invariants: nothing is buffered here, so the client's reading speed paces the stream, and the connection
//! disconnects a client that stops reading. A stream ends when its token expires, when its session is revoked and
//! when the server stops. No event is sent while revocations are not up to date. A stream that ends because the server stops
//! is cut off without its end, so that clients notice an error and connect again.

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, header};
use axum::response::Response;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::limits::SubscriptionQuota;
use super::negotiate::{Media, Streaming};
use super::request_log::{Logged, Refusal, StreamLog};
use super::response_body::held;
use super::{HttpState, responses};
use crate::auth::Principal;
use crate::clock::Clock;
use crate::error::CredentialsError;
use crate::graphql::engine::{Caller, Prepared};
use crate::graphql::request_error::RequestError;
use crate::graphql::response::GraphQLResponse;
use crate::metrics::Latency;
use crate::revocation::{Revocations, Watch};
use crate::traces::TraceContext;

/// Longest wait between two checks of the wall clock for the expiry of a token: the clock may be set in between.
const MAX_EXPIRY_WAIT: Duration = Duration::from_secs(5);

impl Streaming {
    pub(super) const ALL: [Self; 2] = [Self::Events, Self::Multipart];

    /// The transport in `smarthome_subscription_delivery_seconds`.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Events => "sse",
            Self::Multipart => "multipart",
        }
    }

    fn content_type(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Events => "text/event-stream; charset=utf-8",
            Self::Multipart => "multipart/mixed;boundary=\"-\";subscriptionSpec=\"1.0\"",
        })
    }

    /// The first bytes: a multipart body starts with its delimiter.
    fn opening(self) -> &'static [u8] {
        match self {
            // Makes an EventSource fire `open` at once.
            Self::Events => b":\n\n",
            Self::Multipart => b"\r\n---",
        }
    }

    fn event(self, response: &GraphQLResponse) -> Vec<u8> {
        let mut out = Vec::with_capacity(512);
        match self {
            Self::Events => {
                out.extend_from_slice(b"event: next\ndata: ");
                response.write(&mut out);
                out.extend_from_slice(b"\n\n");
            }
            Self::Multipart => {
                out.extend_from_slice(b"\r\nContent-Type: application/json\r\n\r\n{\"payload\":");
                response.write(&mut out);
                out.extend_from_slice(b"}\r\n---");
            }
        }
        out
    }

    fn heartbeat(self) -> &'static [u8] {
        match self {
            Self::Events => b":\n\n",
            Self::Multipart => b"\r\nContent-Type: application/json\r\n\r\n{}\r\n---",
        }
    }

    fn ending(self) -> &'static [u8] {
        match self {
            Self::Events => b"event: complete\ndata:\n\n",
            Self::Multipart => b"--\r\n",
        }
    }
}

/// Ends the body of a response without its last chunk. Apollo Client 3 takes any other end for the end of the subscription.
#[derive(Debug, thiserror::Error)]
#[error("the server is stopping")]
struct ServerStopping;

/// A response stream in progress.
struct ResponseStream {
    format: Streaming,
    responses: BoxStream<'static, GraphQLResponse>,
    principal: Option<Principal>,
    watch: Option<Watch>,
    revocations: Revocations,
    clock: Clock,
    stop: CancellationToken,
    heartbeat: Duration,
    /// When the last bytes were sent.
    idle_since: Instant,
    /// From the publication of events until they are given to the connection.
    delivery: Latency,
    log: StreamLog,
    /// What is logged with the first response.
    first: Option<Logged>,
    /// Bytes to send before the next event.
    pending: Option<Bytes>,
    quota: Option<SubscriptionQuota>,
    is_over: bool,
}

/// Runs an operation as a stream, within the caller's quota.
pub(super) fn stream(
    state: &HttpState,
    format: Streaming,
    prepared: Prepared,
    caller: Caller,
    logged: Logged,
    trace: Option<TraceContext>,
) -> Response {
    let Ok(quota) = state.quotas.subscription(&caller) else {
        state.metrics.count_http_rejection("RATE_LIMITED");
        let message = "too many subscriptions are open: end one of them first";
        let logged = logged.refuse(Refusal::new("RATE_LIMITED", Some(message)));
        return logged.on(responses::quota_exceeded(Media::Json, message));
    };
    let principal = caller.viewer.0.clone();
    let log = StreamLog::of_request(state, trace);
    let stream = ResponseStream {
        format,
        responses: state.engine.stream(prepared, caller),
        watch: principal.as_ref().map(|principal| state.revocations.watch(principal)),
        principal,
        revocations: state.revocations.clone(),
        clock: state.clock.clone(),
        stop: state.stop.clone(),
        heartbeat: state.limits.heartbeat,
        idle_since: Instant::now(),
        first: Some(log.begin(logged)),
        log,
        delivery: state.metrics.delivery_by(format.name()),
        pending: Some(Bytes::from_static(format.opening())),
        quota: Some(quota),
        is_over: false,
    };
    let chunks = futures_util::stream::unfold(stream, |mut stream| async move {
        let chunk = stream.next().await?;
        Some((chunk, stream))
    });
    let mut response = Response::new(Body::from_stream(chunks));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, format.content_type());
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store, no-transform"));
    // Otherwise Nginx buffers the events.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

/// When to check next whether the token has expired.
pub(super) fn next_expiry_check(principal: &Principal, clock: &Clock) -> Instant {
    let remaining = (principal.expires_at - clock.now()).to_std().unwrap_or_default();
    Instant::now() + remaining.min(MAX_EXPIRY_WAIT)
}

/// Waits until the session is revoked; never, for a caller without one.
pub(super) async fn revoked(watch: Option<&Watch>) {
    match watch {
        Some(watch) => watch.revoked().await,
        None => std::future::pending().await,
    }
}

impl ResponseStream {
    async fn next(&mut self) -> Option<Result<Bytes, ServerStopping>> {
        if let Some(pending) = self.pending.take() {
            return Some(Ok(pending));
        }
        if self.is_over {
            return None;
        }
        loop {
            let heartbeat = self.idle_since + self.heartbeat;
            let expiry = self.principal.as_ref().map(|principal| next_expiry_check(principal, &self.clock));
            let deadline = expiry.map_or(heartbeat, |expiry| expiry.min(heartbeat));
            let response = tokio::select! {
                biased;
                () = self.stop.cancelled() => {
                    self.release();
                    return Some(Err(ServerStopping));
                }
                () = revoked(self.watch.as_ref()) => return Some(Ok(self.end_with(session_revoked()))),
                response = self.responses.next() => response,
                () = tokio::time::sleep_until(deadline) => {
                    if self.has_expired() {
                        return Some(Ok(self.end_with(token_expired())));
                    }
                    if self.idle_since.elapsed() < self.heartbeat {
                        continue;
                    }
                    self.idle_since = Instant::now();
                    return Some(Ok(Bytes::from_static(self.format.heartbeat())));
                }
            };
            let Some(response) = response else { return Some(Ok(self.end(Vec::new()))) };
            if let Some(first) = self.first.take() {
                self.log.operation(&first.executed(&response));
            }
            if let Err(error) = self.check_session().await {
                return Some(Ok(self.end_with(error)));
            }
            self.idle_since = Instant::now();
            let event = self.format.event(&response);
            let published = response.published().into_iter();
            self.delivery.observe_since(published.clone().map(|published| published.at));
            self.log.delivered(self.format.name(), published);
            return Some(Ok(held(event.into(), response.into_memory())));
        }
    }

    /// Whether an event may be sent to this caller now. A busy stream never reaches the timer, so each event is
    /// checked.
    async fn check_session(&mut self) -> Result<(), RequestError> {
        if self.has_expired() {
            return Err(token_expired());
        }
        if let Some(watch) = &self.watch {
            if !self.revocations.wait_until_current().await {
                return Err(RequestError::new("UNAVAILABLE", responses::UNAVAILABLE));
            }
            if watch.is_revoked() {
                return Err(session_revoked());
            }
        }
        Ok(())
    }

    fn has_expired(&self) -> bool {
        self.principal.as_ref().is_some_and(|principal| principal.expires_at <= self.clock.now())
    }

    fn end_with(&mut self, error: RequestError) -> Bytes {
        self.end(self.format.event(&error.into()))
    }

    fn end(&mut self, mut last: Vec<u8>) -> Bytes {
        self.release();
        last.extend_from_slice(self.format.ending());
        last.into()
    }

    /// Releases what the operation holds now, not once the client has read everything.
    fn release(&mut self) {
        self.is_over = true;
        self.responses = futures_util::stream::empty().boxed();
        self.quota = None;
    }
}

fn session_revoked() -> RequestError {
    RequestError::unauthenticated(CredentialsError::TokenInvalid, "the session has ended: sign in again")
}

fn token_expired() -> RequestError {
    RequestError::unauthenticated(CredentialsError::TokenExpired, "the access token has expired")
}
