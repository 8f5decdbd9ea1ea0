//! How long messages and batches take, for the metrics. The clock is read for each batch, not for each message.

use std::time::Instant;

use chrono::{DateTime, Utc};

use super::RunningWriter;
use crate::ingest::batch::Batch;
use crate::metrics::Step;
use crate::mqtt::BrokerEvent;

/// The steps of a batch; the values of the label `step`.
pub(super) const LOOK_UP: &str = "look_up";
pub(super) const INSERT: &str = "insert";
pub(super) const COPY: &str = "copy";
/// All of them.
pub const BATCH_STEPS: [&str; 3] = [LOOK_UP, INSERT, COPY];

impl RunningWriter {
    /// The writer has taken these messages from the queue.
    pub(super) fn observe_taken(&mut self, inbox: &[BrokerEvent]) {
        let received_at = inbox.iter().filter_map(|event| match event {
            BrokerEvent::Message(message) => Some(message.received_at),
            BrokerEvent::SessionLost(_) => None,
        });
        let now = self.clock.now();
        self.times.begin(now);
        self.metrics.ingest_queue_wait.observe_all(received_at.map(|at| micros_between(at, now)));
    }

    /// A step has ended, also with an error.
    pub(super) fn observe_step(&mut self, step: &'static str, began: Instant) {
        if self.traces.is_on() {
            self.times.add_step(step, self.traces.time_of(began), self.clock.now());
        }
        self.metrics.ingest_steps.get_or_create(&Step { step }).observe(began.elapsed());
    }

    /// The batch is committed.
    pub(super) fn observe_committed(&self, batch: &Batch) {
        let received_at = batch.messages.iter().map(|message| message.envelope.received_at);
        let now = self.clock.now();
        self.metrics.ingest_commit.observe_all(received_at.map(|at| micros_between(at, now)));
    }
}

/// Zero where the clock was set back.
fn micros_between(earlier: DateTime<Utc>, later: DateTime<Utc>) -> u64 {
    (later - earlier).num_microseconds().map_or(0, |micros| u64::try_from(micros).unwrap_or(0))
}
