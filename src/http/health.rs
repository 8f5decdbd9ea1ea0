//! Liveness and readiness probes for orchestrators.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use axum::response::Response;
use futures_util::future::BoxFuture;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::responses;

/// The state of one dependency: whether it is usable, and a short text.
pub type Check = Result<Cow<'static, str>, Cow<'static, str>>;

/// A dependency of which there is nothing to report.
pub const OK: Check = Ok(Cow::Borrowed("ok"));

/// Each dependency (`database`, `migrations`, `broker`, `ingest`, `revocations`) with its state.
pub type Checks = Vec<(&'static str, Check)>;

/// Checks the dependencies of the server. Implemented in app.rs. Must return within a few seconds.
pub trait Readiness: Send + Sync {
    fn check(&self) -> BoxFuture<'_, Checks>;
}

/// How long a result is reused. Probes need no login and use the API's database connections, so their rate must be
/// bounded.
const READY_TTL: Duration = Duration::from_secs(1);
/// The same while a check fails: who waits for the server shall see at once that it is ready.
const UNREADY_TTL: Duration = Duration::from_millis(25);

/// Caches the last result. One check runs at a time; concurrent probes wait for it and share its result.
pub(super) struct CachedReadiness {
    readiness: Arc<dyn Readiness>,
    last: Mutex<Option<(Instant, Checks)>>,
}

impl CachedReadiness {
    pub(super) fn new(readiness: Arc<dyn Readiness>) -> Self {
        Self { readiness, last: Mutex::default() }
    }
}

impl Readiness for CachedReadiness {
    fn check(&self) -> BoxFuture<'_, Checks> {
        Box::pin(async {
            let mut last = self.last.lock().await;
            if let Some((_, checks)) = last.as_ref().filter(|(at, checks)| at.elapsed() < ttl(checks)) {
                return checks.clone();
            }
            let checks = self.readiness.check().await;
            *last = Some((Instant::now(), checks.clone()));
            checks
        })
    }
}

fn ttl(checks: &Checks) -> Duration {
    if is_ready(checks) { READY_TTL } else { UNREADY_TTL }
}

fn is_ready(checks: &Checks) -> bool {
    checks.iter().all(|(_, check)| check.is_ok())
}

/// For a server without dependencies, in tests.
pub struct AlwaysReady;

impl Readiness for AlwaysReady {
    fn check(&self) -> BoxFuture<'_, Checks> {
        Box::pin(async { Vec::new() })
    }
}

pub(super) fn live() -> Response {
    responses::json(StatusCode::OK, &serde_json::json!({"status": "ok"}))
}

pub(super) async fn ready(readiness: &dyn Readiness) -> Response {
    let checks = readiness.check().await;
    let (status, text) =
        if is_ready(&checks) { (StatusCode::OK, "ok") } else { (StatusCode::SERVICE_UNAVAILABLE, "unavailable") };
    let checks: BTreeMap<_, _> =
        checks.into_iter().map(|(name, check)| (name, check.unwrap_or_else(|reason| reason))).collect();
    responses::json(status, &serde_json::json!({"status": text, "checks": checks}))
}
