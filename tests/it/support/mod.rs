//! What every test stands on: shared PostgreSQL and Mosquitto, one server per test, clients.
#![expect(dead_code, unreachable_pub, reason = "a kit: its public items are for tests to come, and no test uses all")]

pub mod app;
pub mod broker;
pub mod browser;
pub mod http;
pub mod installation;
pub mod mqtt;
pub mod proxy;
pub mod server;
pub mod services;
pub mod user;
pub mod ws;

use std::future::Future;
use std::time::Duration;

/// How long a test waits for something that should happen at once.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Asks again and again until there is an answer; fails the test after [`PATIENCE`].
pub async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, ask: impl FnMut() -> F) -> T {
    within(PATIENCE, what, ask).await
}

/// The same for what takes longer by its nature.
pub async fn within<T, F: Future<Output = Option<T>>>(patience: Duration, what: &str, mut ask: impl FnMut() -> F) -> T {
    let deadline = tokio::time::Instant::now() + patience;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(tokio::time::Instant::now() < deadline, "still not so after {patience:?}: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Fails the test, naming what it waited for, when a future takes longer than [`PATIENCE`].
pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("nothing within {PATIENCE:?}: {what}"),
    }
}

/// A name no other test of this run has.
pub fn unique(prefix: &str) -> String {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{prefix}_{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}
