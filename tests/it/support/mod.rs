//! What the tests have in common: a shared PostgreSQL and Mosquitto, one server per test, clients, waiting.
#![expect(unreachable_pub, reason = "a kit: its public items are for all tests")]

pub mod app;
pub mod binary;
pub mod board;
pub mod broker;
pub mod browser;
pub mod documents;
pub mod http;
pub mod ingest_lock;
pub mod installation;
pub mod kept_session;
pub mod mail;
pub mod mqtt;
pub mod node;
pub mod observed_commands;
pub mod ports;
pub mod proxy;
pub mod server;
pub mod services;
pub mod user;
pub mod ws;

use std::future::Future;
use std::time::Duration;

use smarthome::settings::{Environment, Source};

/// How long a test waits for something that should happen at once.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Polls `ask` until it has an answer; fails the test after [`PATIENCE`].
pub async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, ask: impl FnMut() -> F) -> T {
    within(PATIENCE, what, ask).await
}

/// As [`eventually`], for a condition that needs no waiting to be read.
pub async fn until(what: &str, mut is_met: impl FnMut() -> bool) {
    eventually(what, || std::future::ready(is_met().then_some(()))).await;
}

/// As [`eventually`], with a limit of its own.
pub async fn within<T, F: Future<Output = Option<T>>>(limit: Duration, what: &str, mut ask: impl FnMut() -> F) -> T {
    let deadline = tokio::time::Instant::now() + limit;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(tokio::time::Instant::now() < deadline, "still not so after {limit:?}: {what}");
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

/// A name that no other test of this run has.
pub fn unique(prefix: &str) -> String {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{prefix}_{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Random numbers of a test. It prints the seed; `TEST_SEED` repeats a run with the same numbers.
pub fn rng() -> fastrand::Rng {
    let seed = Environment.get("TEST_SEED").map(|seed| seed.parse().expect("TEST_SEED: a number"));
    let seed = seed.unwrap_or_else(|| fastrand::u64(..));
    println!("random numbers: TEST_SEED={seed} repeats them");
    fastrand::Rng::with_seed(seed)
}
