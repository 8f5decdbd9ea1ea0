//! Whether the process lives, and whether it can do its work: what an orchestrator asks.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::http::StatusCode;
use axum::response::Response;
use futures_util::future::BoxFuture;

use super::reply;

/// What one dependency says of itself: `Ok`, or in a few words why it is not usable.
pub type Check = Result<(), &'static str>;

/// Looks at what the server needs; app.rs knows how. Must answer within a few seconds.
pub trait Readiness: Send + Sync {
    /// Each dependency (`database`, `migrations`, `broker`, `revocations`) and its state.
    fn check(&self) -> BoxFuture<'_, Vec<(&'static str, Check)>>;
}

/// A server that needs nothing.
pub struct AlwaysReady;

impl Readiness for AlwaysReady {
    fn check(&self) -> BoxFuture<'_, Vec<(&'static str, Check)>> {
        Box::pin(async { Vec::new() })
    }
}

pub(super) fn live() -> Response {
    reply::json(StatusCode::OK, &serde_json::json!({"status": "ok"}))
}

pub(super) async fn ready(readiness: Arc<dyn Readiness>) -> Response {
    let checks = readiness.check().await;
    let ready = checks.iter().all(|(_, check)| check.is_ok());
    let (status, word) = if ready { (StatusCode::OK, "ok") } else { (StatusCode::SERVICE_UNAVAILABLE, "unavailable") };
    let checks: BTreeMap<_, _> = checks.into_iter().map(|(name, check)| (name, check.err().unwrap_or("ok"))).collect();
    reply::json(status, &serde_json::json!({"status": word, "checks": checks}))
}
