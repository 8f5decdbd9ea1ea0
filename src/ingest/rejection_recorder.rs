//! Rejected messages: counted by reason, stored for the admins of the home that they name, and logged at most
//! once per reason and minute.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};

use super::envelope::Envelope;
use crate::ids::HomeId;
use crate::metrics::Metrics;
use crate::mqtt::{REJECTED_PREVIEW_BYTES, Rejection};

const WINDOW: Duration = Duration::from_secs(60);
/// Rejected messages stored per home and minute; more are only counted.
const MAX_STORED: u32 = 1_000;
/// Bytes of a topic that are stored.
const MAX_TOPIC: usize = 256;
/// Homes counted at once; beyond, finished windows are removed first.
const MAX_HOMES: usize = 10_000;

/// A rejected message to store for the admins of the home that it names.
#[derive(Debug)]
pub(super) struct NewRejected {
    pub(super) home_id: HomeId,
    pub(super) topic: String,
    pub(super) reason: Rejection,
    pub(super) payload_preview: String,
    pub(super) received_at: DateTime<Utc>,
}

/// What was logged and stored lately. Owned by the writer.
#[derive(Default)]
pub(super) struct RejectionRecorder {
    logged: HashMap<Rejection, Window>,
    stored: HashMap<HomeId, Window>,
}

/// The messages of a fixed time window.
struct Window {
    since: Instant,
    n: u32,
}

impl Window {
    /// Counts a message; returns its number in the present window, from 1.
    fn count(&mut self, now: Instant) -> u32 {
        if now.duration_since(self.since) >= WINDOW {
            (self.since, self.n) = (now, 0);
        }
        self.n += 1;
        self.n
    }
}

impl RejectionRecorder {
    /// Records a rejected message; returns the row to store, if any.
    pub(super) fn record(
        &mut self,
        reason: Rejection,
        home: Option<HomeId>,
        envelope: &Envelope,
        metrics: &Metrics,
    ) -> Option<NewRejected> {
        let now = Instant::now();
        let topic = readable(envelope.topic.as_bytes(), MAX_TOPIC);
        let logged = self.logged.entry(reason).or_insert(Window { since: now, n: 0 });
        if logged.count(now) == 1 {
            let trace = envelope.trace.map(tracing::field::display);
            tracing::warn!(reason = reason.as_str(), topic = %topic.escape_debug(), trace.id = trace, "rejected a message");
        }
        let home_id = home?;
        if self.stored.len() >= MAX_HOMES {
            self.stored.retain(|_, window| now.duration_since(window.since) < WINDOW);
        }
        let stored = self.stored.entry(home_id).or_insert(Window { since: now, n: 0 });
        if stored.count(now) > MAX_STORED {
            metrics.rejected_not_stored.inc();
            return None;
        }
        let payload_preview = readable(&envelope.payload, REJECTED_PREVIEW_BYTES);
        Some(NewRejected { home_id, topic, reason, payload_preview, received_at: envelope.received_at })
    }
}

/// The first bytes as text that PostgreSQL can store: invalid UTF-8 and NUL become U+FFFD.
fn readable(bytes: &[u8], max: usize) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(max)]).replace('\0', "\u{fffd}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingest::envelope::tests::envelope;

    #[test]
    fn each_home_stores_its_share_per_minute_and_the_rest_is_counted() {
        let (mut rejections, metrics) = (RejectionRecorder::default(), Metrics::new());
        let message = envelope("t", b"\xff\0{");
        let mut record =
            |home: i64| rejections.record(Rejection::BadJson, Some(HomeId::from_database(home)), &message, &metrics);
        let first = record(1).unwrap();
        assert_eq!(first.payload_preview, "\u{fffd}\u{fffd}{");
        for _ in 1..MAX_STORED {
            assert!(record(1).is_some());
        }
        assert!(record(1).is_none());
        assert!(record(2).is_some());
        assert_eq!(metrics.rejected_not_stored.get(), 1);
    }
}
