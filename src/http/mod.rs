//! The HTTP server: its routes and the layers around them.
//!
//! One file a surface: `graphql` (POST, GET), `streaming` (SSE, multipart), `socket` (WebSocket), `health`, and
//! `broker_auth` on a port of its own. Invariants: every response that is not a page is JSON, and every error has a
//! code. Every wait and every size has a bound in [`Limits`].

pub mod broker_auth;
mod caller;
mod client;
mod compression;
mod graphql;
pub mod health;
mod layers;
mod limits;
mod log_limit;
mod measure;
mod negotiate;
pub mod pages;
mod request_log;
mod response_body;
mod responses;
mod series;
mod serve;
mod slow_peer;
mod socket;
mod streaming;
mod tls;

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use axum::routing::{any, get};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower_http::catch_panic::CatchPanicLayer;

pub use limits::{Limits, Quotas};
pub use log_limit::RequestLog;
pub use series::begin_series;
pub use serve::{ClientConnection, Server, listen};
pub use socket::close_codes;
pub use tls::ServerTls;

use crate::auth::Tokens;
use crate::authentication::Authenticator;
use crate::clock::Clock;
use crate::graphql::engine::Engine;
use crate::metrics::Metrics;
use crate::revocation::Revocations;
use crate::settings::CorsSettings;
use crate::throttle::Throttle;
use crate::traces::Traces;
use health::{CachedReadiness, Readiness};
use negotiate::Media;

/// What the routes need. All requests and sockets share one.
pub struct HttpState {
    pub engine: Engine,
    pub authenticator: Authenticator,
    /// The source of `/.well-known/jwks.json`.
    pub tokens: Tokens,
    pub revocations: Revocations,
    pub throttle: Throttle,
    pub clock: Clock,
    pub metrics: Metrics,
    /// The checks of `/readyz`.
    pub readiness: Arc<dyn Readiness>,
    /// The schema's text for `/schema.graphql`; `None` when introspection is off.
    pub sdl: Option<Arc<str>>,
    pub quotas: Quotas,
    pub limits: Arc<Limits>,
    pub traces: Traces,
    /// Which requests are logged.
    pub log_requests: RequestLog,
    /// Which pages of other origins may call. Those of the server's own host always may.
    pub cors: Arc<CorsSettings>,
    /// Whether the pages contain GraphiQL: browsers that open `/graphql` are sent there.
    pub graphiql: bool,
    /// Further routes, such as GraphiQL.
    pub pages: Router,
    /// Ends every stream and socket.
    pub stop: CancellationToken,
    /// Sockets are its tasks.
    pub tracker: TaskTracker,
}

/// All routes.
pub fn router(mut state: HttpState) -> Router {
    state.readiness = Arc::new(CachedReadiness::new(state.readiness));
    let cors = layers::cors(state.cors.clone());
    let (pages, measured) = (state.pages.clone(), (state.metrics.clone(), state.log_requests.clone()));
    let traces = state.traces.clone();
    Router::new()
        .route("/graphql", any(graphql_or_socket))
        .route("/graphql/ws", any(graphql_or_socket))
        .route("/schema.graphql", get(schema))
        .route("/.well-known/jwks.json", get(jwks))
        .route("/livez", get(async || health::live()))
        .route("/readyz", get(ready))
        .route("/health", get(ready))
        .route("/metrics", get(metrics))
        .with_state(Arc::new(state))
        .merge(pages)
        .fallback(async || responses::problem(StatusCode::NOT_FOUND, "NOT_FOUND", "no such path"))
        .method_not_allowed_fallback(async || responses::method_not_allowed(Media::Json, "GET, HEAD"))
        .layer(CatchPanicLayer::custom(layers::internal_error))
        .layer(cors)
        .layer(axum::middleware::from_fn_with_state(measured, measure::measure))
        .layer(axum::middleware::from_fn_with_state(traces, layers::wrap_request))
}

async fn graphql_or_socket(State(state): State<Arc<HttpState>>, request: Request<Body>) -> Response {
    if socket::is_upgrade(request.headers()) {
        return socket::accept(state, request).await;
    }
    graphql::handle(&state, request).await
}

async fn schema(State(state): State<Arc<HttpState>>) -> Response {
    match &state.sdl {
        Some(sdl) => responses::text("text/plain; charset=utf-8", sdl.to_string()),
        None => responses::problem(StatusCode::NOT_FOUND, "NOT_FOUND", "introspection is off on this server"),
    }
}

/// Our public keys, for other services that verify our tokens.
async fn jwks(State(state): State<Arc<HttpState>>) -> Response {
    responses::json(StatusCode::OK, &state.tokens.jwks())
}

async fn ready(State(state): State<Arc<HttpState>>) -> Response {
    health::ready(&*state.readiness).await
}

/// In the format that the scraper accepts: Prometheus accepts OpenMetrics, `promtool` and people with curl get the older one.
async fn metrics(State(state): State<Arc<HttpState>>, headers: HeaderMap) -> Response {
    if negotiate::accepts_openmetrics(&headers) {
        let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
        return responses::text(content_type, state.metrics.render());
    }
    responses::text("text/plain; version=0.0.4; charset=utf-8", state.metrics.render_plain())
}
