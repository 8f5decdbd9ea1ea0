//! The accept loop: TCP connections to the router, HTTP/1.1 alone.
//!
//! Not `axum::serve` and not hyper-util's `auto::Builder`: the first has no time-outs at all, the
//! second never times out a connection that sends nothing. And no HTTP/2 in clear text: browsers speak it
//! behind TLS alone, which ends at a proxy that speaks 1.1 to us, and a peer that keeps a stream's window
//! at nothing, or a connection without streams, would be kept for ever. Invariants: a connection holds its place for as long as its socket lives,
//! a WebSocket's too; no peer keeps one by silence, by dripping, or by not reading.

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
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use super::client::Client;
use super::limits::{ConnectionLimiter, ConnectionSlot, Limits};

use super::slow_peer::SlowPeerTimeout;
use crate::metrics::Metrics;
use crate::settings::TrustedProxies;

/// Pause after a failed accept: usually the process is out of file descriptors, and asking again at
/// once would only burn the processor.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(200);
/// What a request may know of the connection it came by.
#[derive(Clone)]
pub struct Connection {
    /// The other end: perhaps a proxy.
    pub peer: SocketAddr,
    /// Whose word is taken on who is behind them.
    pub(super) proxies: Arc<TrustedProxies>,
    /// Held by whatever outlives the HTTP exchange, such as a WebSocket.
    pub(super) slot: Arc<ConnectionSlot>,
}

/// Serves until `stop`; connections are tasks of `tracker`, so closing and awaiting it is the drain.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    limits: Limits,
    proxies: TrustedProxies,
    metrics: Metrics,
    stop: CancellationToken,
    tracker: TaskTracker,
) {
    let (permits, peers) = (Arc::new(Semaphore::new(limits.connections)), ConnectionLimiter::default());
    let (limits, proxies) = (Arc::new(limits), Arc::new(proxies));
    loop {
        // Before accepting: beyond the bound connections wait in the kernel's backlog, where they cost us nothing.
        let permit = match permits.clone().try_acquire_owned() {
            Ok(permit) => permit,
            Err(_) => {
                metrics.http_connections_full.inc();
                tokio::select! {
                    permit = permits.clone().acquire_owned() => permit.expect("never closed"),
                    () = stop.cancelled() => return,
                }
            }
        };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => return,
        };
        match accepted {
            Ok((tcp, peer)) => {
                // A proxy of ours stands for many: only the bound on all connections is its own.
                let is_proxy = proxies.contains(peer.ip());
                let most = if is_proxy { limits.connections } else { limits.connections_per_peer };
                let Some(place) = peers.acquire(peer.ip(), most, permit) else {
                    metrics.http_connections_cut.inc();
                    continue;
                };
                let connection = Connection { peer, proxies: proxies.clone(), slot: Arc::new(place) };
                let (router, limits, stop) = (router.clone(), limits.clone(), stop.clone());
                let open = metrics.http_connections.clone();
                open.inc();
                tracker.spawn(async move {
                    converse(tcp, connection, router, &limits, stop).await;
                    open.dec();
                });
            }
            Err(error) => {
                tracing::warn!(%error, "can't accept connections");
                tokio::select! {
                    () = tokio::time::sleep(ACCEPT_BACKOFF) => {}
                    () = stop.cancelled() => return,
                }
            }
        }
    }
}

/// One connection from its first byte to its last.
async fn converse(tcp: TcpStream, connection: Connection, router: Router, limits: &Limits, stop: CancellationToken) {
    // Frames are written in one piece, so there is nothing to wait for.
    let _ = tcp.set_nodelay(true);
    let service = TowerToHyperService::new(router.map_request(move |mut request: hyper::Request<Incoming>| {
        let client = Client::of(connection.peer.ip(), request.headers(), &connection.proxies);
        request.extensions_mut().insert(client);
        request.extensions_mut().insert(connection.clone());
        request.map(Body::new)
    }));
    let io = TokioIo::new(SlowPeerTimeout::new(tcp, limits.slow_peer_window, limits.slow_peer_min_bytes));
    // An error here is the peer's: it hung up, dripped, or spoke something else.
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout)
        .max_headers(limits.max_headers)
        .max_header_size(limits.header_bytes);
    let mut serving = pin!(builder.serve_connection(io, service).with_upgrades());
    tokio::select! {
        _ = serving.as_mut() => return,
        () = stop.cancelled() => serving.as_mut().graceful_shutdown(),
    }
    let _ = tokio::time::timeout(limits.drain_timeout, serving).await;
}
