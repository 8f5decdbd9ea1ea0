//! One socket from its upgrade to its end: a single task that reads, runs, writes and keeps time.
//!
//! Invariants: the loop is the only owner of the socket and of its operations, so "check and insert"
//! of an id can't race and nothing follows a `complete`; every write has a time-out; reading is
//! looked at before writing, so that a busy socket can still be told to stop.

use std::future::poll_fn;
use std::pin::pin;
use std::time::Duration;

use axum::extract::ws::{Message, WebSocket};
use futures_util::{FutureExt, SinkExt};
use serde_json::value::RawValue;
use tokio::time::Instant;

use super::super::HttpState;
use super::super::limits::SocketQuota;
use super::super::streaming::{EXPIRY_CHECK, ended};
use super::close::Close;
use super::message::{ClientMessage, MessageEncoder, Protocol, token};
use super::rate::Bucket;
use super::streams::Streams;
use crate::auth::Principal;
use crate::graphql::Viewer;
use crate::graphql::document::OperationKind;
use crate::graphql::engine::Caller;
use crate::graphql::request::GraphQLRequest;
use crate::graphql::request_error::RequestError;
use crate::revocation::Watch;

/// Frames written before one flush, at most: enough to save system calls, few enough to keep reading.
const BURST: usize = 64;
/// How long the peer may take to answer our close frame.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// How a session ends: by our decision, by the peer's close frame, or because the peer is gone.
enum End {
    Close(Close),
    Left,
    Gone,
}

impl From<Close> for End {
    fn from(close: Close) -> Self {
        Self::Close(close)
    }
}

/// One socket's state.
pub(super) struct Session {
    state: HttpState,
    protocol: Protocol,
    caller: Caller,
    /// Of the caller's session.
    watch: Option<Watch>,
    share: SocketQuota,
    acknowledged: bool,
    streams: Streams,
    bucket: Bucket,
    opened_at: Instant,
    /// When it was last for somebody, or did something.
    used_at: Instant,
    heard_at: Instant,
    pinged_at: Option<Instant>,
}

impl Session {
    pub(super) fn new(state: HttpState, protocol: Protocol, caller: Caller, share: SocketQuota) -> Self {
        let now = Instant::now();
        let bucket = Bucket::new(state.limits.socket_messages_per_second, state.limits.socket_message_burst, now);
        Self {
            watch: caller.viewer.0.as_ref().map(|principal| state.revocations.watch(principal)),
            state,
            protocol,
            caller,
            share,
            acknowledged: false,
            streams: Streams::default(),
            bucket,
            opened_at: now,
            used_at: now,
            heard_at: now,
            pinged_at: None,
        }
    }

    /// Talks until the end, then closes properly.
    pub(super) async fn run(mut self, mut socket: WebSocket) {
        let Err(end) = self.talk(&mut socket).await;
        // Whatever the operations held is free before the peer has taken leave.
        self.streams = Streams::default();
        self.share = SocketQuota::default();
        match end {
            End::Close(close) => {
                self.state.metrics.count_closed_socket(close.counted);
                let refused = close == Close::FORBIDDEN && !self.acknowledged && self.protocol == Protocol::Legacy;
                say_goodbye(socket, refused.then(Protocol::connection_error), Some(&close)).await;
            }
            End::Left => say_goodbye(socket, None, None).await,
            End::Gone => {}
        }
    }

    async fn talk(&mut self, socket: &mut WebSocket) -> Result<std::convert::Infallible, End> {
        let stop = self.state.stop.clone();
        let mut stopped = pin!(stop.cancelled());
        let mut timer = pin!(tokio::time::sleep_until(self.next_deadline()));
        loop {
            let streams = &mut self.streams;
            tokio::select! {
                biased;
                () = stopped.as_mut() => return Err(Close::GOING_AWAY.into()),
                () = ended(self.watch.as_ref()) => return Err(Close::REVOKED.into()),
                received = socket.recv() => {
                    let message = received.ok_or(End::Gone)?.map_err(|error| broken(&error))?;
                    for reply in self.hear(message).await? {
                        self.send(socket, reply).await?;
                    }
                    // A token that has just come may end sooner than the timer was set for.
                    let next = self.next_deadline();
                    if next < timer.deadline() {
                        timer.as_mut().reset(next);
                    }
                }
                () = timer.as_mut() => {
                    for message in self.keep_time()? {
                        self.send(socket, message).await?;
                    }
                    timer.as_mut().reset(self.next_deadline());
                }
                message = poll_fn(|cx| streams.poll_message(cx)) => {
                    self.still_judged().await?;
                    self.send(socket, message).await?;
                    self.used_at = Instant::now();
                }
            }
        }
    }

    /// Writes a message and all that are ready behind it, then flushes once.
    async fn send(&mut self, socket: &mut WebSocket, first: Message) -> Result<(), End> {
        let (streams, clock) = (&mut self.streams, &self.state.clock);
        let expires_at = self.caller.viewer.0.as_ref().map(|principal| principal.expires_at);
        let has_expired = || expires_at.is_some_and(|at| at <= clock.now());
        let burst = async {
            socket.feed(first).await?;
            for _ in 1..BURST {
                let Some(message) = poll_fn(|cx| streams.poll_message(cx)).now_or_never() else { break };
                if has_expired() {
                    break;
                }
                socket.feed(message).await?;
            }
            socket.flush().await
        };
        let writing = tokio::time::timeout(self.state.limits.socket_send_timeout, burst);
        let sent = tokio::select! {
            biased;
            // A reader that stopped must not keep a session alive.
            () = ended(self.watch.as_ref()) => return Err(Close::REVOKED.into()),
            () = until(has_expired) => return Err(Close::EXPIRED.into()),
            sent = writing => sent,
        };
        match sent {
            Ok(sent) => sent.map_err(|_| End::Gone),
            Err(_) => {
                // A close frame could not be written either.
                self.state.metrics.count_closed_socket("SLOW_READER");
                Err(End::Gone)
            }
        }
    }

    /// When [`Session::keep_time`] is to be called next.
    fn next_deadline(&self) -> Instant {
        let limits = &self.state.limits;
        let ping =
            self.pinged_at.map_or(self.heard_at + limits.socket_ping_interval, |at| at + limits.socket_pong_timeout);
        let anonymous = self.is_unused().then(|| self.used_at + limits.socket_anonymous_timeout);
        let init = (!self.acknowledged).then(|| self.opened_at + limits.socket_init_timeout);
        let expiry = self.caller.viewer.0.as_ref().map(|_| Instant::now() + EXPIRY_CHECK);
        // While a timer is set for a shorter time than needed, nothing is missed.
        [init, anonymous, expiry].into_iter().flatten().fold(ping, Instant::min)
    }

    /// Judges what time has brought: no init, no pong, an expired token, no use, or the need to
    /// ping.
    fn keep_time(&mut self) -> Result<Vec<Message>, Close> {
        let (now, limits) = (Instant::now(), &self.state.limits);
        if !self.acknowledged && now >= self.opened_at + limits.socket_init_timeout {
            return Err(Close::INIT_TIMEOUT);
        }
        if self.caller.viewer.0.as_ref().is_some_and(|principal| self.has_expired(principal)) {
            return Err(Close::EXPIRED);
        }
        if !self.is_unused() {
            self.used_at = now;
        } else if now >= self.used_at + limits.socket_anonymous_timeout {
            return Err(Close::ANONYMOUS);
        }
        match self.pinged_at {
            Some(at) if now >= at + limits.socket_pong_timeout => Err(Close::NO_PONG),
            None if now >= self.heard_at + limits.socket_ping_interval => {
                self.pinged_at = Some(now);
                Ok([Message::Ping(Default::default())].into_iter().chain(self.keep_alive()).collect())
            }
            _ => Ok(Vec::new()),
        }
    }

    /// Whether it is open to nobody in particular and for nothing.
    fn is_unused(&self) -> bool {
        self.caller.viewer.0.is_none() && self.streams.len() == 0
    }

    /// The older protocol's clients want a message: their browsers hide the pings from them.
    fn keep_alive(&self) -> Option<Message> {
        (self.acknowledged && self.protocol == Protocol::Legacy).then(Protocol::keep_alive)
    }

    /// Whether the caller's session holds. Where nobody knows, after a moment's wait, nothing goes in or out; a
    /// socket on which nothing happens is let be.
    async fn still_judged(&mut self) -> Result<(), Close> {
        let Some(watch) = &self.watch else { return Ok(()) };
        if !self.state.revocations.wait_until_current().await {
            return Err(Close::UNAVAILABLE);
        }
        if watch.is_revoked() { Err(Close::REVOKED) } else { Ok(()) }
    }

    fn has_expired(&self, principal: &Principal) -> bool {
        principal.expires_at <= self.state.clock.now()
    }

    /// Judges one message of the client and says what is to be answered at once.
    async fn hear(&mut self, message: Message) -> Result<Vec<Message>, End> {
        let now = Instant::now();
        self.heard_at = now;
        self.pinged_at = None;
        if !self.is_unused() {
            self.used_at = now;
        }
        if !self.bucket.take(now) {
            return Err(Close::TOO_MANY_MESSAGES.into());
        }
        let text = match message {
            Message::Text(text) => text,
            Message::Binary(_) => return Err(Close::invalid("Invalid message: binary").into()),
            Message::Ping(_) | Message::Pong(_) => return Ok(Vec::new()),
            Message::Close(_) => return Err(End::Left),
        };
        if text.len() > self.state.limits.socket_message_bytes {
            return Err(Close::TOO_BIG.into());
        }
        match self.protocol.parse(text.as_str())? {
            ClientMessage::Init(payload) => {
                let ack = self.init(payload).await?;
                Ok([ack].into_iter().chain(self.keep_alive()).collect())
            }
            ClientMessage::Ping(payload) => {
                self.renew(payload).await?;
                Ok(vec![Protocol::pong()])
            }
            ClientMessage::Pong => Ok(Vec::new()),
            ClientMessage::Subscribe(id, call) => {
                self.still_judged().await?;
                Ok(self.subscribe(id, call)?.into_iter().collect())
            }
            ClientMessage::Complete(id) => Ok(self.complete(&id).into_iter().collect()),
            ClientMessage::Terminate => Err(Close::GOODBYE.into()),
        }
    }

    async fn init(&mut self, payload: Option<&RawValue>) -> Result<Message, End> {
        if self.acknowledged {
            return Err(Close::SECOND_INIT.into());
        }
        match token(payload) {
            Ok(None) => {}
            Ok(Some(token)) => match admit(&self.state, &self.caller, &token).await {
                Ok(principal) => {
                    let signed_in = self.state.quotas.sign_in(&mut self.share, principal.user);
                    signed_in.map_err(|_| Close::TOO_MANY_SOCKETS)?;
                    self.watch = Some(self.state.revocations.watch(&principal));
                    self.caller.viewer = Viewer(Some(principal));
                }
                Err(close) => return Err(close.into()),
            },
            Err(()) => return Err(Close::FORBIDDEN.into()),
        }
        self.acknowledged = true;
        Ok(self.protocol.ack())
    }

    /// A fresh token in a ping lets the socket live on: for the same session only.
    async fn renew(&mut self, payload: Option<&RawValue>) -> Result<(), Close> {
        let fresh = match token(payload) {
            Ok(None) => return Ok(()),
            Ok(Some(token)) => admit(&self.state, &self.caller, &token).await?,
            Err(()) => return Err(Close::FORBIDDEN),
        };
        match &self.caller.viewer.0 {
            Some(present) if (present.user, present.actor) == (fresh.user, fresh.actor) => {
                // An older token that comes late does not shorten what a newer one gave.
                if present.expires_at < fresh.expires_at {
                    self.caller.viewer = Viewer(Some(fresh));
                }
                Ok(())
            }
            _ => Err(Close::FORBIDDEN),
        }
    }

    fn subscribe(&mut self, id: String, call: GraphQLRequest) -> Result<Option<Message>, Close> {
        if !self.acknowledged {
            return Err(Close::UNAUTHORIZED);
        }
        if self.caller.viewer.0.as_ref().is_some_and(|principal| self.has_expired(principal)) {
            return Err(Close::EXPIRED);
        }
        if self.streams.contains(&id) {
            return Err(Close::duplicate(&id));
        }
        let mut voice = MessageEncoder::new(self.protocol, &id);
        if self.streams.len() >= self.state.limits.socket_operations {
            self.state.metrics.count_http_rejection("RATE_LIMITED");
            let refusal = RequestError::new("RATE_LIMITED", "too many operations on one socket");
            return Ok(Some(voice.error(&refusal.into())));
        }
        let user = self.caller.viewer.0.as_ref().map(|principal| principal.user);
        let throttle = &self.state.throttle;
        let counted = throttle.address_request(self.caller.peer.0);
        if let Err(error) = counted.and_then(|()| user.map_or(Ok(()), |user| throttle.user_request(user))) {
            self.state.metrics.count_http_rejection("RATE_LIMITED");
            return Ok(Some(voice.error(&RequestError::new("RATE_LIMITED", error.to_string()).into())));
        }
        match self.state.engine.prepare(call) {
            Ok(prepared) => {
                let kind = prepared.kind();
                // What ends by itself soon needs no bound beyond the socket's own.
                let lasts = kind == OperationKind::Subscription;
                let Ok(share) = lasts.then(|| self.state.quotas.stream(&self.caller)).transpose() else {
                    self.state.metrics.count_http_rejection("RATE_LIMITED");
                    let message = "too many subscriptions are open: end one of them first";
                    return Ok(Some(voice.error(&RequestError::new("RATE_LIMITED", message).into())));
                };
                let answers = self.state.engine.stream(prepared, self.caller.clone());
                self.streams.start(id, voice, kind, answers, share);
                Ok(None)
            }
            Err(refusal) => {
                self.state.metrics.count_http_rejection(refusal.code());
                Ok(Some(voice.error(&refusal.into())))
            }
        }
    }

    /// An id that is not running is no error: our own `complete` may have crossed the client's.
    fn complete(&mut self, id: &str) -> Option<Message> {
        let was_running = self.streams.end(id);
        // The older protocol confirms a stop.
        (was_running && self.protocol == Protocol::Legacy).then(|| MessageEncoder::new(self.protocol, id).complete())
    }
}

/// Judges a token that a message brought: a request like any other.
async fn admit(state: &HttpState, caller: &Caller, token: &str) -> Result<Principal, Close> {
    let admitted = async {
        state.throttle.address_request(caller.peer.0)?;
        let principal = state.authenticator.authenticate(token).await?;
        state.throttle.user_request(principal.user)?;
        Ok(principal)
    };
    admitted.await.map_err(|error| Close::auth_error(&error))
}

/// Looks at the wall clock now and then. The first look comes at once: whatever is to be sent, a token
/// that has expired does not hear it.
async fn until(has_expired: impl Fn() -> bool) {
    while !has_expired() {
        tokio::time::sleep(EXPIRY_CHECK).await;
    }
}

/// A read that failed: a message over the library's own bound, broken frames, or a lost connection.
fn broken(error: &axum::Error) -> End {
    let text = error.to_string();
    if text.contains("too long") || text.contains("too large") {
        return Close::TOO_BIG.into();
    }
    let lost = ["Connection reset", "IO error", "without closing handshake", "Connection closed"];
    if lost.iter().any(|frame| text.contains(frame)) { End::Gone } else { Close::BROKEN.into() }
}

/// Sends what is left to say and the close frame, and waits a moment for the peer's: without that the
/// frame might never be read. Reading also answers a close frame of the peer's.
async fn say_goodbye(mut socket: WebSocket, last: Option<Message>, close: Option<&Close>) {
    let goodbye = async {
        let close = close.map(|close| Message::Close(Some(close.frame())));
        for message in last.into_iter().chain(close) {
            if socket.send(message).await.is_err() {
                return;
            }
        }
        while let Some(Ok(_)) = socket.recv().await {}
    };
    let _ = tokio::time::timeout(CLOSE_TIMEOUT, goodbye).await;
}
