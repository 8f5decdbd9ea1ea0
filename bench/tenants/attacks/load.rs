//! Requests over several connections of one account, as many a second as it is allowed.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use crate::tenants::http::Client;

/// After a refusal that says nothing of the time to wait.
const AFTER_REFUSAL: Duration = Duration::from_millis(100);
/// A refused account that is patient asks again at the latest after this.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// Works until a moment, or until it is done. What waits then is dropped, with its connections.
pub(super) async fn work_until(until: Instant, work: impl Future) {
    let _ = timeout_at(until, work).await;
}

/// What the requests of a load met.
#[derive(Default)]
pub(super) struct Outcome {
    accepted: AtomicUsize,
    refused: Mutex<BTreeMap<String, usize>>,
}

impl Outcome {
    pub(super) fn accept(&self) {
        self.accepted.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn refuse(&self, code: String) {
        *self.refused.lock().expect("nobody panics with it").entry(code).or_default() += 1;
    }

    /// `600 accepted, 12 RATE_LIMITED`
    pub(super) fn text(&self, what: &str) -> String {
        let refused = self.refused.lock().expect("nobody panics with it");
        let refused = refused.iter().map(|(code, n)| format!(", {n} {code}")).collect::<String>();
        format!("{} {what}{refused}", self.accepted.load(Ordering::Relaxed))
    }
}

/// What is sent.
pub(super) struct Load {
    /// Each is sent once, or all again and again.
    pub(super) requests: Vec<Vec<u8>>,
    pub(super) repeat: bool,
    pub(super) connections: usize,
    /// Sent at once before the pace begins.
    pub(super) burst: usize,
    pub(super) per_second: u32,
}

impl Load {
    /// Sends until a moment, or until each request was accepted.
    pub(super) async fn send(self, client: &Client, until: Instant) -> Arc<Outcome> {
        let (load, next, outcome) = (Arc::new(self), Arc::new(AtomicUsize::new(0)), Arc::new(Outcome::default()));
        let (begun, mut tasks) = (Instant::now(), JoinSet::new());
        for _ in 0..load.connections {
            let (load, next, outcome) = (load.clone(), next.clone(), outcome.clone());
            let client = client.clone();
            tasks.spawn(async move {
                let work = load.connection(client, &next, &outcome, begun);
                work_until(until, work).await;
            });
        }
        tasks.join_all().await;
        outcome
    }

    async fn connection(&self, mut client: Client, next: &AtomicUsize, outcome: &Outcome, begun: Instant) {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(request) = self.request(number) else { return };
            let paced = u32::try_from(number.saturating_sub(self.burst)).unwrap_or(u32::MAX);
            sleep_until(begun + Duration::from_secs(1) / self.per_second * paced).await;
            loop {
                match client.send(request).await {
                    Ok(_) => break outcome.accept(),
                    Err(refusal) => {
                        let wait = refusal.retry_after.unwrap_or(AFTER_REFUSAL).min(LONGEST_WAIT);
                        outcome.refuse(refusal.code);
                        sleep(wait).await;
                    }
                }
                if self.repeat {
                    break;
                }
            }
        }
    }

    fn request(&self, number: usize) -> Option<&[u8]> {
        let index = if self.repeat { number % self.requests.len() } else { number };
        self.requests.get(index).map(Vec::as_slice)
    }
}
