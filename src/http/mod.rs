//! HTTP: the routes, and everything a request meets before and after them.
//!
//! One file per surface: `graphql` (POST, GET), `live` (SSE, multipart), `socket` (WebSocket),
//! `health`, `broker_auth` on a port of its own. Invariants: every answer, a refusal too, is JSON with a code unless it is a page; every
//! wait and every size has a bound in [`Limits`].

pub mod broker_auth;
mod caller;
mod client;
mod graphql;
pub mod health;
mod layers;
mod limits;
mod negotiate;
pub mod pages;
mod responses;
mod serve;
mod slow_peer;
mod socket;
mod streaming;

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::{any, get};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower_http::catch_panic::CatchPanicLayer;

pub use limits::{Limits, Quotas};
pub use serve::{Connection, serve};

use crate::auth::Tokens;
use crate::authentication::Authenticator;
use crate::clock::Clock;
use crate::graphql::engine::Engine;
use crate::metrics::Metrics;
use crate::revocation::Revocations;
use crate::throttle::Throttle;
use health::{Readiness, Recent};

/// What the routes need. Cheap to clone.
#[derive(Clone)]
pub struct HttpState {
    /// The schema behind its gate.
    pub engine: Engine,
    /// Who a token stands for.
    pub authenticator: Authenticator,
    /// Whose public keys are shown.
    pub tokens: Tokens,
    /// What has ended before its time.
    pub revocations: Revocations,
    /// How often somebody may ask.
    pub throttle: Throttle,
    /// Judges whether a token still holds.
    pub clock: Clock,
    /// What `/metrics` shows and what refusals are counted in.
    pub metrics: Metrics,
    /// What `/readyz` asks.
    pub readiness: Arc<dyn Readiness>,
    /// The schema's text, at `/schema.graphql`; none where introspection is off.
    pub sdl: Option<Arc<str>>,
    /// What somebody may have open at once.
    pub quotas: Quotas,
    /// Every bound.
    pub limits: Arc<Limits>,
    /// Foreign origins whose pages may call (`CORS_ORIGINS`); the own host always may.
    pub cors_origins: Arc<[String]>,
    /// Further routes, such as the pages.
    pub pages: Router,
    /// Ends every stream and socket.
    pub stop: CancellationToken,
    /// Sockets are its tasks.
    pub tracker: TaskTracker,
}

/// All routes.
pub fn router(mut state: HttpState) -> Router {
    state.readiness = Arc::new(Recent::new(state.readiness));
    let cors = layers::cors(&state.cors_origins);
    let pages = state.pages.clone();
    Router::new()
        .route("/graphql", any(graphql_or_socket))
        .route("/graphql/ws", any(graphql_or_socket))
        .route("/schema.graphql", get(schema))
        .route("/.well-known/jwks.json", get(jwks))
        .route("/livez", get(async || health::live()))
        .route("/readyz", get(ready))
        .route("/health", get(ready))
        .route("/metrics", get(metrics))
        .with_state(state)
        .merge(pages)
        .fallback(async || responses::problem(StatusCode::NOT_FOUND, "NOT_FOUND", "no such path"))
        .method_not_allowed_fallback(async || responses::method_not_allowed("GET, HEAD"))
        .layer(CatchPanicLayer::custom(layers::panicked))
        .layer(cors)
        .layer(axum::middleware::from_fn(layers::frame))
}

async fn graphql_or_socket(State(state): State<HttpState>, request: Request<Body>) -> Response {
    if socket::is_upgrade(request.headers()) {
        return socket::accept(state, request).await;
    }
    graphql::handle(state, request).await
}

async fn schema(State(state): State<HttpState>) -> Response {
    match &state.sdl {
        Some(sdl) => responses::text("text/plain; charset=utf-8", sdl.to_string()),
        None => responses::problem(StatusCode::NOT_FOUND, "NOT_FOUND", "introspection is off on this server"),
    }
}

/// Public keys alone: whoever trusts our tokens fetches them now and then.
async fn jwks(State(state): State<HttpState>) -> Response {
    responses::json(StatusCode::OK, &state.tokens.jwks())
}

async fn ready(State(state): State<HttpState>) -> Response {
    health::ready(state.readiness).await
}

async fn metrics(State(state): State<HttpState>) -> Response {
    responses::text("application/openmetrics-text; version=1.0.0; charset=utf-8", state.metrics.render())
}
