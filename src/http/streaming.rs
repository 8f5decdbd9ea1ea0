//! Answers that go on over plain HTTP: server-sent events (distinct-connections mode) and Apollo's
//! multipart subscriptions.
//!
//! Invariants: nothing is buffered here (the reader's speed is the stream's speed, and a reader that
//! stops is cut by the connection); a stream ends with its token and with the server; no event goes out
//! while it is not known whether the session has ended.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, header};
use axum::response::Response;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::limits::SubscriptionQuota;
use super::negotiate::Streaming;
use super::{HttpState, responses};
use crate::auth::Principal;
use crate::clock::Clock;
use crate::graphql::engine::{Caller, Prepared};
use crate::graphql::request_error::RequestError;
use crate::graphql::response::GraphQLResponse;
use crate::revocation::{Revocations, Watch};

/// How often the wall clock is asked whether the token still holds.
pub(super) const EXPIRY_CHECK: Duration = Duration::from_millis(500);

impl Streaming {
    fn content_type(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Events => "text/event-stream; charset=utf-8",
            Self::Multipart => "multipart/mixed;boundary=\"-\";subscriptionSpec=\"1.0\"",
        })
    }

    /// What stands before all else: a multipart body opens with its delimiter.
    fn opening(self) -> &'static [u8] {
        match self {
            // Makes an EventSource fire `open` at once.
            Self::Events => b":\n\n",
            Self::Multipart => b"\r\n---",
        }
    }

    fn answer(self, answer: &GraphQLResponse) -> Vec<u8> {
        let mut out = Vec::with_capacity(512);
        match self {
            Self::Events => {
                out.extend_from_slice(b"event: next\ndata: ");
                answer.write(&mut out);
                out.extend_from_slice(b"\n\n");
            }
            Self::Multipart => {
                out.extend_from_slice(b"\r\nContent-Type: application/json\r\n\r\n{\"payload\":");
                answer.write(&mut out);
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

fn session_over() -> GraphQLResponse {
    RequestError::new("UNAUTHENTICATED", "the session has ended: sign in again").into()
}

struct Live {
    form: Streaming,
    answers: BoxStream<'static, GraphQLResponse>,
    principal: Option<Principal>,
    watch: Option<Watch>,
    revocations: Revocations,
    clock: Clock,
    stop: CancellationToken,
    heartbeat: Duration,
    quiet_since: Instant,
    /// What comes before the next answer.
    pending: Option<Bytes>,
    share: Option<SubscriptionQuota>,
    over: bool,
}

/// Runs an operation as a stream of the given form, if its caller may have another.
pub(super) fn stream(state: &HttpState, form: Streaming, prepared: Prepared, caller: Caller) -> Response {
    let Ok(share) = state.quotas.stream(&caller) else {
        state.metrics.count_http_rejection("RATE_LIMITED");
        return responses::quota_exceeded("too many subscriptions are open: end one of them first");
    };
    let principal = caller.viewer.0.clone();
    let live = Live {
        form,
        answers: state.engine.stream(prepared, caller),
        watch: principal.as_ref().map(|principal| state.revocations.watch(principal)),
        principal,
        revocations: state.revocations.clone(),
        clock: state.clock.clone(),
        stop: state.stop.clone(),
        heartbeat: state.limits.heartbeat,
        quiet_since: Instant::now(),
        pending: Some(Bytes::from_static(form.opening())),
        share: Some(share),
        over: false,
    };
    let chunks = futures_util::stream::unfold(live, |mut live| async move {
        let chunk = live.next().await?;
        Some((Ok::<_, Infallible>(chunk), live))
    });
    let mut response = Response::new(Body::from_stream(chunks));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, form.content_type());
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store, no-transform"));
    // Nginx would collect the events otherwise.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

/// Never for nobody.
pub(super) async fn ended(watch: Option<&Watch>) {
    match watch {
        Some(watch) => watch.revoked().await,
        None => std::future::pending().await,
    }
}

impl Live {
    async fn next(&mut self) -> Option<Bytes> {
        if let Some(pending) = self.pending.take() {
            return Some(pending);
        }
        if self.over {
            return None;
        }
        loop {
            let deadline = match self.principal {
                Some(_) => (self.quiet_since + self.heartbeat).min(Instant::now() + EXPIRY_CHECK),
                None => self.quiet_since + self.heartbeat,
            };
            let answer = tokio::select! {
                biased;
                () = self.stop.cancelled() => None,
                () = ended(self.watch.as_ref()) => {
                    return Some(self.end(self.form.answer(&session_over())));
                }
                answer = self.answers.next() => answer,
                () = tokio::time::sleep_until(deadline) => {
                    if self.expired() {
                        let refusal = RequestError::new("UNAUTHENTICATED", "the access token has expired");
                        return Some(self.end(self.form.answer(&refusal.into())));
                    }
                    if self.quiet_since.elapsed() < self.heartbeat {
                        continue;
                    }
                    self.quiet_since = Instant::now();
                    return Some(Bytes::from_static(self.form.heartbeat()));
                }
            };
            let Some(answer) = answer else { return Some(self.end(Vec::new())) };
            if self.expired() {
                // A busy stream never reaches the timer above.
                let refusal = RequestError::new("UNAUTHENTICATED", "the access token has expired");
                return Some(self.end(self.form.answer(&refusal.into())));
            }
            if let Some(watch) = &self.watch {
                if !self.revocations.wait_until_current().await {
                    let refusal = RequestError::new("UNAVAILABLE", "service temporarily unavailable, try again");
                    return Some(self.end(self.form.answer(&refusal.into())));
                }
                if watch.is_revoked() {
                    return Some(self.end(self.form.answer(&session_over())));
                }
            }
            self.quiet_since = Instant::now();
            return Some(self.form.answer(&answer).into());
        }
    }

    fn expired(&self) -> bool {
        self.principal.as_ref().is_some_and(|principal| principal.expires_at <= self.clock.now())
    }

    fn end(&mut self, mut last: Vec<u8>) -> Bytes {
        self.over = true;
        // Whatever the operation held is free now, not when the reader has read it all.
        self.answers = futures_util::stream::empty().boxed();
        self.share = None;
        last.extend_from_slice(self.form.ending());
        last.into()
    }
}
