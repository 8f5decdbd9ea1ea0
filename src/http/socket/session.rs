//! One socket from its upgrade to its close: a single task that reads, runs operations, writes and keeps time.
//!
//! Invariants: the task is the only owner of the socket and of its operations, so checking an id and inserting it
//! can't race, and no message follows a `complete`. A write fails when the client reads too slowly (`slow_peer`). Each
//! turn looks for frames of the client before it writes another response, so that a busy socket can still be stopped.

mod incoming;
mod timers;

use std::future::{Future, poll_fn};
use std::iter::once;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::ws::{Message, WebSocket};
use futures_util::{SinkExt, StreamExt};
use tokio::time::Instant;

use super::close::{Close, CloseReason};
use super::message::Protocol;
use super::operations::{Operations, Outgoing};
use super::read_error;
use super::wakes::{SocketTask, Wakes};
use crate::graphql::engine::Caller;
use crate::http::HttpState;
use crate::http::limits::SocketQuota;
use crate::http::request_log::StreamLog;
use crate::http::streaming::revoked;
use crate::latch::Latch;
use crate::metrics::Latency;
use crate::rate::Gcra;
use crate::revocation::Watch;
use timers::until_expired;

/// Frames written before one flush, at most: enough to save system calls, few enough to keep reading.
const BURST: usize = 64;
/// Time for the client to answer our close frame.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// The transport in `smarthome_subscription_delivery_seconds`.
pub(in crate::http) const WEBSOCKET: &str = "websocket";
/// The reason in `smarthome_sockets_closed_total` where no close frame can be sent.
pub(super) const SLOW_READER: &str = "SLOW_READER";

/// What a socket waits for.
enum Event {
    /// The server stops.
    Stopped,
    /// The caller's session was revoked.
    Revoked,
    /// A frame of the client; `None` once the connection is closed.
    Received(Option<Result<Message, axum::Error>>),
    Timer,
    /// A message of a running operation.
    Response(Outgoing),
}

/// The state of one socket.
pub(super) struct Session {
    state: Arc<HttpState>,
    protocol: Protocol,
    caller: Caller,
    /// Watches the caller's session.
    watch: Option<Watch>,
    quota: SocketQuota,
    is_acknowledged: bool,
    operations: Operations,
    message_rate: Gcra,
    /// The state of `message_rate`, in microseconds since `opened_at`.
    theoretical_arrival_time: i64,
    opened_at: Instant,
    /// When the socket last had a signed-in user or a running operation.
    used_at: Instant,
    received_at: Instant,
    pinged_at: Option<Instant>,
    /// From the publication of events until they are written.
    delivery: Latency,
    log: StreamLog,
}

impl Session {
    pub(super) fn new(
        state: Arc<HttpState>,
        protocol: Protocol,
        caller: Caller,
        quota: SocketQuota,
        log: StreamLog,
    ) -> Self {
        let now = Instant::now();
        let delivery = state.metrics.delivery_by(WEBSOCKET);
        let message_rate = Gcra::new(state.limits.socket_messages_per_second, state.limits.socket_message_burst);
        Self {
            watch: caller.viewer.0.as_ref().map(|principal| state.revocations.watch(principal)),
            state,
            protocol,
            caller,
            quota,
            is_acknowledged: false,
            operations: Operations::default(),
            log,
            message_rate,
            theoretical_arrival_time: 0,
            opened_at: now,
            used_at: now,
            received_at: now,
            pinged_at: None,
            delivery,
        }
    }

    /// Serves the socket, then closes it properly.
    pub(super) async fn run(mut self, mut socket: WebSocket) {
        let Err(reason) = self.serve(&mut socket).await;
        // Releases what the operations hold before the close handshake.
        self.operations = Operations::default();
        self.quota = SocketQuota::default();
        match reason {
            CloseReason::Server(close) => {
                self.state.metrics.count_closed_socket(close.counted);
                self.log.closed(self.caller.user(), &close.logged(), self.opened_at.elapsed());
                let is_refused =
                    !self.is_acknowledged && self.protocol == Protocol::Legacy && close.is_of_credentials();
                let last = is_refused.then(|| Protocol::connection_error(&close.reason));
                Box::pin(close_gracefully(socket, last, Some(&close))).await;
            }
            CloseReason::Client => Box::pin(close_gracefully(socket, None, None)).await,
            CloseReason::Disconnected => {}
        }
    }

    async fn serve(&mut self, socket: &mut WebSocket) -> Result<std::convert::Infallible, CloseReason> {
        let task = SocketTask::current().await;
        let wakes = task.wakes();
        self.operations = Operations::new(task, self.log.clone());
        let stop = self.state.stop.clone();
        let mut stopped = pin!(stop.cancelled());
        let mut session_revoked = pin!(until_set(self.watch.as_ref().map(Watch::latch)));
        let mut timer = pin!(tokio::time::sleep_until(self.next_deadline()));
        loop {
            let others = |cx: &mut Context<'_>| {
                if stopped.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(Event::Stopped);
                }
                if session_revoked.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(Event::Revoked);
                }
                if let Poll::Ready(received) = socket.poll_next_unpin(cx) {
                    return Poll::Ready(Event::Received(received));
                }
                timer.as_mut().poll(cx).map(|()| Event::Timer)
            };
            match next_event(&mut self.operations, &wakes, others).await {
                Event::Stopped => return Err(Close::GOING_AWAY.into()),
                Event::Revoked => return Err(Close::REVOKED.into()),
                Event::Received(received) => {
                    let received = received.ok_or(CloseReason::Disconnected)?;
                    let message = received.map_err(read_error::close_reason)?;
                    // Boxed, as all that runs between two events: a socket that waits does not carry its memory.
                    for reply in Box::pin(self.handle_message(message)).await? {
                        Box::pin(self.send(socket, reply.into())).await?;
                    }
                    // The message may have signed in a user.
                    session_revoked.set(until_set(self.watch.as_ref().map(Watch::latch)));
                    // A token that it brought may expire before the timer fires.
                    let next = self.next_deadline();
                    if next < timer.deadline() {
                        timer.as_mut().reset(next);
                    }
                }
                Event::Timer => {
                    for message in self.check_timers()? {
                        Box::pin(self.send(socket, message.into())).await?;
                    }
                    timer.as_mut().reset(self.next_deadline());
                }
                Event::Response(message) => Box::pin(self.send_response(socket, message)).await?,
            }
        }
    }

    async fn send_response(&mut self, socket: &mut WebSocket, first: Outgoing) -> Result<(), CloseReason> {
        self.check_session().await?;
        self.send(socket, first).await?;
        self.used_at = Instant::now();
        Ok(())
    }

    /// Writes a message and further ready ones, then flushes once.
    async fn send(&mut self, socket: &mut WebSocket, first: Outgoing) -> Result<(), CloseReason> {
        let (operations, clock) = (&mut self.operations, &self.state.clock);
        let principal = self.caller.viewer.0.as_ref();
        let has_expired = || principal.is_some_and(|principal| principal.expires_at <= clock.now());
        if has_expired() {
            return Err(Close::EXPIRED.into());
        }
        // Until the flush, the messages are in the socket's buffer, and their memory is reserved.
        let Outgoing { message, memory: _memory, published } = first;
        let burst = async {
            // Mostly there is none.
            let mut more = Vec::new();
            socket.feed(message).await?;
            for _ in 1..BURST {
                let Poll::Ready(next) = operations.poll_message() else { break };
                if has_expired() {
                    break;
                }
                more.push((next.memory, next.published));
                socket.feed(next.message).await?;
            }
            socket.flush().await?;
            Ok::<_, axum::Error>(more)
        };
        let sent = tokio::select! {
            biased;
            // Mostly the kernel takes everything at once. Otherwise the connection fails when its peer reads too slowly.
            sent = burst => sent,
            () = self.state.stop.cancelled() => return Err(Close::GOING_AWAY.into()),
            // A client that stopped reading must not outlive its session.
            () = revoked(self.watch.as_ref()) => return Err(Close::REVOKED.into()),
            () = until_expired(principal, clock) => return Err(Close::EXPIRED.into()),
        };
        match sent {
            Ok(more) => {
                let published = once(published).chain(more.iter().map(|(_, published)| *published)).flatten();
                self.delivery.observe_since(published.clone().map(|published| published.at));
                self.log.delivered(WEBSOCKET, published);
                Ok(())
            }
            Err(error) => {
                if read_error::is_timeout(error) {
                    // A close frame could not be written either.
                    self.state.metrics.count_closed_socket(SLOW_READER);
                    self.log.closed(self.caller.user(), &Close::slow_reader(), self.opened_at.elapsed());
                }
                Err(CloseReason::Disconnected)
            }
        }
    }

    /// Fails when the caller's session was revoked, or when that can't be told after waiting a moment: then no
    /// operation starts and no event is sent. An idle socket stays open.
    //
    // `&mut`, because a shared reference to a session is not `Send`: the response streams are not `Sync`.
    async fn check_session(&mut self) -> Result<(), Close> {
        let Some(watch) = &self.watch else { return Ok(()) };
        if !self.state.revocations.wait_until_current().await {
            return Err(Close::UNAVAILABLE);
        }
        if watch.is_revoked() { Err(Close::REVOKED) } else { Ok(()) }
    }
}

/// Waits until the latch is set; never returns without one.
async fn until_set(latch: Option<Latch>) {
    match latch {
        Some(latch) => latch.wait().await,
        None => std::future::pending().await,
    }
}

/// Waits for the next event. Responses have the lowest priority, so that a busy socket can still be stopped; and most
/// wakes are for one, so the others are asked only if one of them was woken.
async fn next_event(
    operations: &mut Operations,
    wakes: &Wakes,
    mut poll_others: impl FnMut(&mut Context<'_>) -> Poll<Event>,
) -> Event {
    poll_fn(|_| {
        if wakes.take()
            && let Poll::Ready(event) = poll_others(&mut Context::from_waker(wakes.waker()))
        {
            wakes.keep();
            return Poll::Ready(event);
        }
        operations.poll_message().map(Event::Response)
    })
    .await
}

/// Sends a last message and the close frame, then waits for the client's close frame: if the connection closed at
/// once, the client might never read ours. Reading also answers a close frame of the client.
async fn close_gracefully(mut socket: WebSocket, last: Option<Message>, close: Option<&Close>) {
    let closing = async {
        let close = close.map(|close| Message::Close(Some(close.frame())));
        for message in last.into_iter().chain(close) {
            if socket.send(message).await.is_err() {
                return;
            }
        }
        while let Some(Ok(_)) = socket.recv().await {}
    };
    let _ = tokio::time::timeout(CLOSE_TIMEOUT, closing).await;
}
