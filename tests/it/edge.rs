//! A fixture of the HTTP server alone: the real accept loop, routes and engine with a small schema, so that no
//! database is needed. Every instance has its own port.

#![expect(clippy::unwrap_used, reason = "a fixture that can't be set up fails its test")]

mod schema;
mod socket;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_graphql::Schema;
use serde_json::{Value, json};
use smarthome::auth::{Actor, Tokens};
use smarthome::authentication::Authenticator;
use smarthome::clock::Clock;
use smarthome::graphql::engine::Engine;
use smarthome::http::health::AlwaysReady;
use smarthome::http::{HttpState, Limits, Quotas, RequestLog, Server, listen, router};
use smarthome::ids::UserId;
use smarthome::metrics::{Metrics, Protocol};
use smarthome::request_memory::RequestMemory;
use smarthome::revocation::Revocations;
use smarthome::settings::{CorsSettings, LogRequests, Secret};
use smarthome::throttle::Throttle;
use smarthome::traces::Traces;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::support::PATIENCE;

pub(crate) use schema::LiveStreams;
use schema::{Mutation, Query, Subscription};
pub(crate) use socket::{Received, Socket};

/// One server.
pub(crate) struct Edge {
    pub(crate) addr: SocketAddr,
    pub(crate) tokens: Tokens,
    pub(crate) clock: Clock,
    pub(crate) metrics: Metrics,
    pub(crate) live: LiveStreams,
    pub(crate) throttle: Throttle,
    pub(crate) stop: CancellationToken,
    pub(crate) tracker: TaskTracker,
}

impl Edge {
    /// Open sockets of both protocols.
    pub(crate) fn n_sockets(&self) -> i64 {
        let open = |protocol| self.metrics.sockets.get_or_create(&Protocol { protocol }).get();
        ["graphql-transport-ws", "graphql-ws"].map(open).into_iter().sum()
    }

    pub(crate) async fn start() -> Self {
        Self::with(|_| {}, true).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut Limits), introspection: bool) -> Self {
        Self::behind("", change, introspection).await
    }

    /// A server with rate limits.
    pub(crate) async fn limited() -> Self {
        Self::build("", |_| {}, true, Throttle::new(true)).await
    }

    /// A server that trusts these proxies.
    pub(crate) async fn behind(proxies: &str, change: impl FnOnce(&mut Limits), introspection: bool) -> Self {
        Self::build(proxies, change, introspection, Throttle::new(false)).await
    }

    async fn build(proxies: &str, change: impl FnOnce(&mut Limits), introspection: bool, throttle: Throttle) -> Self {
        let proxies = proxies.parse().unwrap();
        let (clock, metrics, live) = (Clock::movable(), Metrics::new(), LiveStreams::default());
        let tokens = Tokens::new(&Secret::new("0123456789abcdef0123456789abcdef"), clock.clone());
        let schema = Schema::build(Query, Mutation, Subscription).data(live.clone()).data(clock.clone()).finish();
        let mut limits = Limits::default();
        change(&mut limits);
        let (stop, tracker) = (CancellationToken::new(), TaskTracker::new());
        // No revocation arrives, for longer than any test runs.
        let revocations = Revocations::new(clock.clone());
        revocations.mark_synced(Instant::now() + Duration::from_secs(3600));
        let state = HttpState {
            engine: Engine::new(schema.clone(), introspection)
                .execution_timeout(Duration::from_millis(300))
                .with_memory(RequestMemory::new(limits.memory, metrics.clone()))
                .with_oversized_counter(metrics.graphql_answers_too_large.clone()),
            authenticator: Authenticator::new(tokens.clone(), revocations.clone()),
            tokens: tokens.clone(),
            revocations,
            throttle: throttle.clone(),
            clock: clock.clone(),
            metrics: metrics.clone(),
            readiness: Arc::new(AlwaysReady),
            sdl: Some(schema.sdl().into()),
            quotas: Quotas::new(&limits, metrics.clone()),
            limits: Arc::new(limits.clone()),
            traces: Traces::default(),
            log_requests: RequestLog::new(LogRequests::Off, metrics.clone()),
            cors: Arc::new(CorsSettings {
                origins: vec!["https://app.example.com".to_owned()],
                ..CorsSettings::default()
            }),
            graphiql: false,
            pages: axum::Router::new(),
            stop: stop.clone(),
            tracker: tracker.clone(),
        };
        let listener = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let addr = listener.local_addr().unwrap();
        let (router, this) = (router(state), Self { addr, tokens, clock, metrics, live, throttle, stop, tracker });
        let (metrics, stop, tracker) = (this.metrics.clone(), this.stop.clone(), this.tracker.clone());
        let server = Server { listener, tls: None, router, limits, proxies, metrics, stop, tracker };
        this.tracker.spawn(server.run());
        this
    }

    pub(crate) fn token(&self, user: i64, life: Duration) -> String {
        self.tokens.issue(UserId::from_database(user), Actor::Operator, life).0
    }

    /// Sends a request on a connection of its own and reads the whole response.
    pub(crate) async fn request(&self, head: &str, body: &[u8]) -> Reply {
        let mut tcp = TcpStream::connect(self.addr).await.unwrap();
        let length = if head.contains("Content-Length") || head.contains("Transfer-Encoding") {
            String::new()
        } else {
            format!("Content-Length: {}\r\n", body.len())
        };
        let head = format!("{head}\r\nHost: {}\r\nConnection: close\r\n{length}\r\n", self.addr);
        tcp.write_all(head.as_bytes()).await.unwrap();
        // A server that refuses early may not read the body.
        let _ = tcp.write_all(body).await;
        let mut text = Vec::new();
        let _ = tokio::time::timeout(PATIENCE, tcp.read_to_end(&mut text)).await.expect("an answer in time");
        Reply::parse(&text)
    }

    /// A GraphQL request by POST.
    pub(crate) async fn post(&self, headers: &str, body: &Value) -> Reply {
        let head = format!("POST /graphql HTTP/1.1\r\nContent-Type: application/json{headers}");
        self.request(&head, body.to_string().as_bytes()).await
    }

    pub(crate) async fn query(&self, query: &str) -> Reply {
        self.post("\r\nAccept: application/graphql-response+json", &json!({ "query": query })).await
    }

    /// Opens a socket, or returns the status of the error.
    pub(crate) async fn socket(&self, protocol: &str, headers: &[(&str, &str)]) -> Result<Socket, u16> {
        let mut request = format!("ws://{}/graphql", self.addr).into_client_request().unwrap();
        if !protocol.is_empty() {
            request.headers_mut().insert("sec-websocket-protocol", protocol.parse().unwrap());
        }
        for (name, value) in headers {
            let name: axum::http::HeaderName = name.parse().unwrap();
            request.headers_mut().insert(name, value.parse().unwrap());
        }
        match tokio_tungstenite::connect_async(request).await {
            Ok((socket, _)) => Ok(Socket(socket)),
            Err(tungstenite::Error::Http(response)) => Err(response.status().as_u16()),
            Err(other) => panic!("{other}"),
        }
    }

    /// A socket whose init is acknowledged.
    pub(crate) async fn ready(&self) -> Socket {
        let mut socket = self.socket("graphql-transport-ws", &[]).await.unwrap();
        socket.send_json(&json!({"type": "connection_init"})).await;
        assert_eq!(socket.receive().await, Received::Json(json!({"type": "connection_ack"})));
        socket
    }

    /// Waits until no subscription of the schema is running.
    pub(crate) async fn all_streams_end(&self) {
        let ended = async {
            while self.live.count() > 0 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, ended).await.expect("every stream ends");
    }
}

/// An HTTP response.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    fn parse(text: &[u8]) -> Self {
        let end = text.windows(4).position(|w| w == b"\r\n\r\n").unwrap_or(text.len().saturating_sub(4));
        let head = String::from_utf8_lossy(&text[..end]).to_lowercase();
        let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0);
        Self { status, head, body: text.get(end + 4..).unwrap_or_default().to_vec() }
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    pub(crate) fn code(&self) -> String {
        self.json()["errors"][0]["extensions"]["code"].as_str().unwrap_or_default().to_owned()
    }
}
