//! The accept loop: TCP connections, with TLS or without, to the router; HTTP/1.1 only.
//!
//! `axum::serve` has no timeouts at all, and hyper-util's `auto::Builder` never times out a connection that
//! sends nothing, so hyper's HTTP/1 builder is used directly. HTTP/2 is left out: a proxy speaks 1.1 to us, and without it
//! no peer can hold a connection open with a zero flow-control window or without any stream.
//!
//! Invariants: a connection keeps its slot as long as its socket is open, also as a WebSocket. No peer keeps a
//! connection by sending nothing, by sending slowly, or by not reading.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use super::client::Client;
use super::limits::{ConnectionLimiter, ConnectionSlot, Limits};
use super::slow_peer::{Pace, SlowPeerTimeout};
use super::tls::ServerTls;
use crate::latch::Latch;
use crate::metrics::Metrics;
use crate::settings::TrustedProxies;

/// Size of the kernel's send buffer of a connection, in bytes; the kernel doubles it for its own needs. It reports room
/// when a third is free, so the progress of a slow reader is seen every 100 to 200 KiB. The kernel's own choice grows to
/// megabytes, which a client that reads nothing keeps.
const SEND_BUFFER_BYTES: u32 = 128 << 10;
/// Connections that wait to be accepted.
const BACKLOG: u32 = 1_024;

/// Listens for connections of a [`Server`].
pub fn listen(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = if addr.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    // Accepted connections inherit it.
    socket.set_send_buffer_size(SEND_BUFFER_BYTES)?;
    socket.bind(addr)?;
    socket.listen(BACKLOG)
}

/// Pause after a failed accept. The process is usually out of file descriptors; retrying at once would only use
/// CPU time.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(200);

/// What a request may know about its connection.
#[derive(Clone)]
pub struct ClientConnection {
    /// The TCP peer, which may be a proxy.
    pub peer: SocketAddr,
    /// Proxies whose forwarding headers are trusted.
    pub(super) proxies: Arc<TrustedProxies>,
    /// Held by everything that outlives the HTTP exchange, such as a WebSocket.
    pub(super) slot: Arc<ConnectionSlot>,
}

/// One listening port and what its connections need.
pub struct Server {
    pub listener: TcpListener,
    /// TLS for every connection.
    pub tls: Option<ServerTls>,
    pub router: Router,
    pub limits: Limits,
    pub proxies: TrustedProxies,
    pub metrics: Metrics,
    pub stop: CancellationToken,
    /// Connections are its tasks: close it and await it to drain them.
    pub tracker: TaskTracker,
}

/// What all connections of a server share.
struct Shared {
    tls: Option<ServerTls>,
    router: Router,
    limits: Limits,
    proxies: Arc<TrustedProxies>,
    metrics: Metrics,
    stop: CancellationToken,
}

impl Server {
    /// Accepts connections until `stop`.
    pub async fn run(self) {
        let Self { listener, tls, router, limits, proxies, metrics, stop, tracker } = self;
        let limiter = ConnectionLimiter::new(limits.connections);
        let shared = Arc::new(Shared { tls, router, limits, proxies: Arc::new(proxies), metrics, stop });
        loop {
            // Before accepting: beyond the limit connections wait in the kernel's backlog, where they cost nothing.
            let permit = match limiter.try_permit() {
                Some(permit) => permit,
                None => {
                    shared.metrics.http_connections_full.inc();
                    tokio::select! {
                        permit = limiter.permit() => permit,
                        () = shared.stop.cancelled() => return,
                    }
                }
            };
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = shared.stop.cancelled() => return,
            };
            match accepted {
                Ok((tcp, peer)) => {
                    let limit = shared.connections_of(peer);
                    let Some(slot) = limiter.acquire(peer.ip(), limit, permit) else {
                        shared.metrics.http_connections_cut.inc();
                        continue;
                    };
                    let connection = ClientConnection { peer, proxies: shared.proxies.clone(), slot: Arc::new(slot) };
                    shared.metrics.http_connections.inc();
                    let shared = shared.clone();
                    tracker.spawn(async move {
                        serve_connection(tcp, connection, &shared).await;
                        shared.metrics.http_connections.dec();
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "can't accept connections");
                    tokio::select! {
                        () = tokio::time::sleep(ACCEPT_BACKOFF) => {}
                        () = shared.stop.cancelled() => return,
                    }
                }
            }
        }
    }
}

impl Shared {
    /// How many connections this peer may have. A trusted proxy carries many clients, so only the limit on all
    /// connections applies to it.
    fn connections_of(&self, peer: SocketAddr) -> usize {
        let is_proxy = self.proxies.contains(peer.ip());
        if is_proxy { self.limits.connections } else { self.limits.connections_per_peer }
    }
}

/// Serves one connection until it closes.
async fn serve_connection(tcp: TcpStream, connection: ClientConnection, shared: &Shared) {
    let limits = &shared.limits;
    // Frames are written in one piece, so Nagle's algorithm would only delay them.
    let _ = tcp.set_nodelay(true);
    let pace =
        Pace { window: limits.slow_peer_window, min_bytes: limits.slow_peer_min_bytes, stall: limits.slow_peer_stall };
    let io = SlowPeerTimeout::new(tcp, pace);
    let Some(tls) = &shared.tls else { return serve_stream(io, connection, shared).await };
    let accepted = shared.stop.run_until_cancelled(tls.accept(io, limits.header_timeout)).await;
    // An error is the peer's: it does not speak TLS, or does not accept the certificate.
    if let Some(Ok(stream)) = accepted {
        serve_stream(stream, connection, shared).await;
    }
}

/// Serves the requests of a connection.
async fn serve_stream<T>(stream: T, connection: ClientConnection, shared: &Shared)
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let limits = &shared.limits;
    let has_tls = shared.tls.is_some();
    let router = shared.router.clone();
    let has_asked = Latch::default();
    let asked = has_asked.clone();
    let service = TowerToHyperService::new(router.map_request(move |mut request: hyper::Request<Incoming>| {
        asked.set();
        let client = Client::of(connection.peer.ip(), has_tls, request.headers(), &connection.proxies);
        request.extensions_mut().insert(client);
        request.extensions_mut().insert(connection.clone());
        request.map(Body::new)
    }));
    let io = TokioIo::new(stream);
    let mut builder = http1::Builder::new();
    // hyper starts this time when the response before has been written, so that it includes the idle time.
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(limits.idle_timeout)
        .max_headers(limits.max_headers)
        .max_header_size(limits.header_bytes);
    let mut serving = pin!(builder.serve_connection(io, service).with_upgrades());
    // An error is the peer's: it disconnected, was too slow, or did not speak HTTP.
    tokio::select! {
        _ = serving.as_mut() => return,
        () = not_within(limits.header_timeout, &has_asked) => return,
        () = shared.stop.cancelled() => serving.as_mut().graceful_shutdown(),
    }
    let _ = tokio::time::timeout(limits.drain_timeout, serving).await;
}

/// Returns when `limit` has passed without `latch` being set, else never.
async fn not_within(limit: Duration, latch: &Latch) {
    if tokio::time::timeout(limit, latch.wait()).await.is_ok() {
        std::future::pending::<()>().await;
    }
}
