//! Every bound of the HTTP and WebSocket server, with its unit. Tests make them small.

mod connections;
mod keyed_semaphore;
mod quotas;

use std::time::Duration;

use crate::request_memory::{MemoryLimits, RETRY_AFTER_SECONDS};

pub(super) use connections::{ConnectionLimiter, ConnectionSlot};
pub use quotas::Quotas;
pub(super) use quotas::{QUOTAS, SocketQuota, SubscriptionQuota};

/// Bounds on connections, requests and sockets.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Open TCP connections, including WebSockets.
    pub connections: usize,
    /// Open TCP connections of one network peer; further ones are closed at once. A proxy of `TRUSTED_PROXIES`
    /// is exempt. Behind any other proxy all clients count as one peer.
    pub connections_per_peer: usize,
    /// Time to receive the header of a connection's first request.
    pub header_timeout: Duration,
    /// Longest idle time of a connection after a response, and the time to receive the next header. It is longer than
    /// proxies keep idle connections (nginx 60 s, Traefik 90 s, Caddy 120 s): a server that closes first meets the next
    /// request of a proxy half way, and the proxy's client gets a 502.
    pub idle_timeout: Duration,
    /// Time to receive a request's body.
    pub body_timeout: Duration,
    /// A peer that accepts fewer than `slow_peer_min_bytes` in this time, while more are waiting, is disconnected.
    pub slow_peer_window: Duration,
    /// See `slow_peer_window`.
    pub slow_peer_min_bytes: usize,
    /// A peer that accepts nothing for this time, while something is waiting, is disconnected.
    pub slow_peer_stall: Duration,
    /// Time that unfinished requests have after shutdown begins.
    pub drain_timeout: Duration,
    /// Header fields of a request.
    pub max_headers: usize,
    /// Bytes of a request's header.
    pub header_bytes: usize,
    /// Bytes of a request's body.
    pub body_bytes: usize,
    /// Idle time after which a stream over HTTP sends a heartbeat.
    pub heartbeat: Duration,
    /// Time for a new socket to send `connection_init`.
    pub socket_init_timeout: Duration,
    /// Longest time a socket may be open without a signed-in user and without a running operation.
    pub socket_anonymous_timeout: Duration,
    /// Idle time after which the server pings a socket's client.
    pub socket_ping_interval: Duration,
    /// Time to answer a ping.
    pub socket_pong_timeout: Duration,
    /// Bytes of one message from a socket's client.
    pub socket_message_bytes: usize,
    /// Bytes of running operations and of responses that clients have not taken yet.
    pub memory: MemoryLimits,
    /// Open sockets of one user.
    pub sockets_per_user: usize,
    /// Open sockets of one client address. An office, or a carrier's NAT, is one address.
    pub sockets_per_address: usize,
    /// Running subscriptions of one user, over sockets and over HTTP.
    pub subscriptions_per_user: usize,
    /// Running subscriptions of one client address.
    pub subscriptions_per_address: usize,
    /// Running operations of one socket: a wall display has a few for each of its devices.
    pub socket_operations: usize,
    /// Sustained messages a second from a socket's client.
    pub socket_messages_per_second: u32,
    /// Messages a socket's client may send at once: enough to start and stop all its operations.
    pub socket_message_burst: u32,
}

impl Limits {
    /// Without the limits on one user and one address, for load tests that use one of each.
    pub fn without_quotas(self) -> Self {
        let unlimited = usize::MAX;
        Self {
            sockets_per_user: unlimited,
            sockets_per_address: unlimited,
            subscriptions_per_user: unlimited,
            subscriptions_per_address: unlimited,
            memory: MemoryLimits { per_user: unlimited, per_address: unlimited, ..self.memory },
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
            idle_timeout: Duration::from_secs(150),
            body_timeout: Duration::from_secs(15),
            slow_peer_window: Duration::from_secs(30),
            slow_peer_min_bytes: 128 << 10,
            slow_peer_stall: Duration::from_secs(RETRY_AFTER_SECONDS.into()),
            memory: MemoryLimits::default(),
            drain_timeout: Duration::from_secs(8),
            max_headers: 64,
            header_bytes: 32 << 10,
            body_bytes: 256 << 10,
            heartbeat: Duration::from_secs(12),
            socket_init_timeout: Duration::from_secs(5),
            socket_anonymous_timeout: Duration::from_secs(30),
            socket_ping_interval: Duration::from_secs(15),
            socket_pong_timeout: Duration::from_secs(10),
            socket_message_bytes: 64 << 10,
            sockets_per_user: 100,
            sockets_per_address: 1_000,
            subscriptions_per_user: 1_000,
            subscriptions_per_address: 10_000,
            socket_operations: 200,
            socket_messages_per_second: 20,
            socket_message_burst: 450,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::throttle::Throttle;

    #[test]
    fn all_sockets_of_an_address_can_connect_again_at_once() {
        let (throttle, address) = (Throttle::new(true), Some("192.0.2.1".parse().unwrap()));
        // The upgrade, `connection_init` and a subscription.
        for n in 0..3 * Limits::default().sockets_per_address {
            assert!(throttle.address_request(address).is_ok(), "request {n}");
        }
    }
}
