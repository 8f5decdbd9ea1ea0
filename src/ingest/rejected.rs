//! What becomes of messages that can't be used: counted by reason, kept for the home they name,
//! logged at most once per reason and minute.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};

use super::store::NewRejected;
use crate::ids::HomeId;
use crate::metrics::Metrics;
use crate::mqtt::{PREVIEW_BYTES, Rejection};

const WINDOW: Duration = Duration::from_secs(60);
/// Rejected messages kept per home and minute; more are only counted.
const MAX_KEPT: u32 = 1_000;
/// Bytes of a topic that are kept.
const MAX_TOPIC: usize = 256;

/// Bounds of keeping and logging. Owned by the writer.
#[derive(Default)]
pub(super) struct Rejections {
    logged: HashMap<Rejection, Window>,
    kept: HashMap<HomeId, Window>,
}

struct Window {
    since: Instant,
    n: u32,
}

impl Window {
    /// How many came in the present window, this one included.
    fn count(&mut self, now: Instant) -> u32 {
        if now.duration_since(self.since) >= WINDOW {
            (self.since, self.n) = (now, 0);
        }
        self.n += 1;
        self.n
    }
}

impl Rejections {
    /// Takes a rejected message; returns the row that is to be kept, if any.
    pub(super) fn take(
        &mut self,
        reason: Rejection,
        home: Option<HomeId>,
        (topic, payload): (&[u8], &[u8]),
        received_at: DateTime<Utc>,
        metrics: &Metrics,
    ) -> Option<NewRejected> {
        let now = Instant::now();
        let topic = readable(topic, MAX_TOPIC);
        let window = self.logged.entry(reason).or_insert(Window { since: now, n: 0 });
        if window.count(now) == 1 {
            tracing::warn!(reason = reason.as_str(), topic = %topic.escape_debug(), "rejected a message");
        }
        let home_id = home?;
        if self.kept.len() >= 10_000 {
            self.kept.retain(|_, window| now.duration_since(window.since) < WINDOW);
        }
        if self.kept.entry(home_id).or_insert(Window { since: now, n: 0 }).count(now) > MAX_KEPT {
            metrics.rejected_not_stored.inc();
            return None;
        }
        let payload_preview = readable(payload, PREVIEW_BYTES);
        Some(NewRejected { home_id, topic, reason: reason.as_str(), payload_preview, received_at })
    }
}

/// The first bytes as text that PostgreSQL can keep: what is no UTF-8, and NUL, become U+FFFD.
fn readable(bytes: &[u8], max: usize) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(max)]).replace('\0', "\u{fffd}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_home_has_its_fill_and_the_rest_is_counted() {
        let (mut rejections, metrics) = (Rejections::default(), Metrics::new());
        let mut take = |home: i64| {
            let home = Some(HomeId::from_database(home));
            rejections.take(Rejection::BadJson, home, (b"t", b"\xff\0{"), DateTime::UNIX_EPOCH, &metrics)
        };
        let first = take(1).unwrap();
        assert_eq!(first.payload_preview, "\u{fffd}\u{fffd}{");
        for _ in 1..MAX_KEPT {
            assert!(take(1).is_some());
        }
        assert!(take(1).is_none());
        assert!(take(2).is_some());
        assert_eq!(metrics.rejected_not_stored.get(), 1);
    }
}
