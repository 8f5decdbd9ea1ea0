//! Whether the process lives, and whether it can do its work: what an orchestrator asks.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use axum::response::Response;
use futures_util::future::BoxFuture;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::responses;

/// What one dependency says of itself: `Ok`, or in a few words why it is not usable.
pub type Check = Result<(), &'static str>;

/// Each dependency (`database`, `migrations`, `broker`, `revocations`) and its state.
pub type Checks = Vec<(&'static str, Check)>;

/// Looks at what the server needs; app.rs knows how. Must answer within a few seconds.
pub trait Readiness: Send + Sync {
    /// How each dependency is now.
    fn check(&self) -> BoxFuture<'_, Checks>;
}

/// For how long an answer is as good as another look: probes need no login, and the connections they would
/// take are those of the API.
const FRESH: Duration = Duration::from_secs(1);

/// What was last seen of the dependencies. One looks at a time; whoever asks meanwhile hears what it saw.
pub(super) struct Recent {
    readiness: Arc<dyn Readiness>,
    seen: Mutex<Option<(Instant, Checks)>>,
}

impl Recent {
    pub(super) fn new(readiness: Arc<dyn Readiness>) -> Self {
        Self { readiness, seen: Mutex::default() }
    }
}

impl Readiness for Recent {
    fn check(&self) -> BoxFuture<'_, Checks> {
        Box::pin(async {
            let mut seen = self.seen.lock().await;
            if let Some((_, checks)) = seen.as_ref().filter(|(at, _)| at.elapsed() < FRESH) {
                return checks.clone();
            }
            let checks = self.readiness.check().await;
            *seen = Some((Instant::now(), checks.clone()));
            checks
        })
    }
}

/// A server that needs nothing.
pub struct AlwaysReady;

impl Readiness for AlwaysReady {
    fn check(&self) -> BoxFuture<'_, Checks> {
        Box::pin(async { Vec::new() })
    }
}

pub(super) fn live() -> Response {
    responses::json(StatusCode::OK, &serde_json::json!({"status": "ok"}))
}

pub(super) async fn ready(readiness: Arc<dyn Readiness>) -> Response {
    let checks = readiness.check().await;
    let ready = checks.iter().all(|(_, check)| check.is_ok());
    let (status, word) = if ready { (StatusCode::OK, "ok") } else { (StatusCode::SERVICE_UNAVAILABLE, "unavailable") };
    let checks: BTreeMap<_, _> = checks.into_iter().map(|(name, check)| (name, check.err().unwrap_or("ok"))).collect();
    responses::json(status, &serde_json::json!({"status": word, "checks": checks}))
}
