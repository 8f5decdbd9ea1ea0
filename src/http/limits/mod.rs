//! Every bound of the HTTP and WebSocket edge, with its unit, in one place. A test may make them small.

mod connections;
mod keyed_semaphore;
mod quotas;

use std::time::Duration;

pub(super) use connections::{ConnectionLimiter, ConnectionSlot};
pub use quotas::Quotas;
pub(super) use quotas::{SocketQuota, SubscriptionQuota};

/// Bounds on connections, requests and sockets.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Open TCP connections, WebSockets among them.
    pub connections: usize,
    /// Those of one network peer among them: beyond it, a connection is cut at once. A proxy of
    /// `TRUSTED_PROXIES` is no such peer; behind another proxy all clients are one.
    pub connections_per_peer: usize,
    /// How long a request's header may take, and how long a kept-alive connection may be silent.
    pub header_timeout: Duration,
    /// How long a request's body may take.
    pub body_timeout: Duration,
    /// How long a peer may be slow to take what we write before its connection is cut.
    pub slow_peer_window: Duration,
    /// Bytes it must take in that time, as long as there are any.
    pub slow_peer_min_bytes: usize,
    /// How long requests in flight may go on after the stop.
    pub drain_timeout: Duration,
    /// Header fields of a request.
    pub max_headers: usize,
    /// Bytes of a request's header.
    pub header_bytes: usize,
    /// Bytes of a request's body.
    pub body_bytes: usize,
    /// Silence after which a stream over HTTP sends a sign of life.
    pub heartbeat: Duration,
    /// How long a socket may take to send `connection_init`.
    pub socket_init_timeout: Duration,
    /// How long a socket may be open to nobody: neither signed in nor with an operation running.
    pub socket_anonymous_timeout: Duration,
    /// Silence of a socket's peer after which it is pinged.
    pub socket_ping_interval: Duration,
    /// How long the answer to a ping may take.
    pub socket_pong_timeout: Duration,
    /// How long one burst of frames may take to be written: a slow reader is cut.
    pub socket_send_timeout: Duration,
    /// Bytes of one message of a socket's client.
    pub socket_message_bytes: usize,
    /// Sockets one person may have open.
    pub sockets_per_user: usize,
    /// Sockets one client's address may have open: an office, or a carrier's gateway, is one address.
    pub sockets_per_address: usize,
    /// Subscriptions one person may have running, over sockets and over plain HTTP.
    pub subscriptions_per_user: usize,
    /// Subscriptions one client's address may have running.
    pub subscriptions_per_address: usize,
    /// Operations one socket may have running.
    pub socket_operations: usize,
    /// Messages a socket's client may send per second, in the long run.
    pub socket_messages_per_second: u32,
    /// Messages it may send at once: enough to subscribe to all it may have and to sign them off.
    pub socket_message_burst: u32,
}

impl Limits {
    /// Without those on one person and one address, for load tests: they come from one of each.
    pub fn without_quotas(self) -> Self {
        let all = usize::MAX;
        Self {
            sockets_per_user: all,
            sockets_per_address: all,
            subscriptions_per_user: all,
            subscriptions_per_address: all,
            ..self
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 10_000,
            connections_per_peer: 2_000,
            header_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(15),
            slow_peer_window: Duration::from_secs(30),
            slow_peer_min_bytes: 128 << 10,
            drain_timeout: Duration::from_secs(8),
            max_headers: 64,
            header_bytes: 32 << 10,
            body_bytes: 256 << 10,
            heartbeat: Duration::from_secs(12),
            socket_init_timeout: Duration::from_secs(5),
            socket_anonymous_timeout: Duration::from_secs(30),
            socket_ping_interval: Duration::from_secs(15),
            socket_pong_timeout: Duration::from_secs(10),
            socket_send_timeout: Duration::from_secs(5),
            socket_message_bytes: 64 << 10,
            sockets_per_user: 100,
            sockets_per_address: 1_000,
            subscriptions_per_user: 500,
            subscriptions_per_address: 5_000,
            socket_operations: 50,
            socket_messages_per_second: 20,
            socket_message_burst: 120,
        }
    }
}
