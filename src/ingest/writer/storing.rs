//! Storing a batch for as long as it takes: retries, splits, quarantine, and the acknowledgements at the end.

use std::time::Instant;

use diesel::result::Error as DieselError;

use super::after_commit::DeletedDevices;
use super::transaction::{Committed, Ending};
use super::verdict::{Fault, Refusals, Verdict};
use super::{ATTEMPT_TIMEOUT, RunningWriter, timing};
use crate::db::with_timeout;
use crate::devices::StateChange;
use crate::ingest::batch::{Batch, Outcome};
use crate::ingest::months::TooManyParked;
use crate::mqtt::{PendingPubAck, Rejection};
use crate::traces::TraceContext;

/// A batch to store, and how often the database has refused it.
struct Attempt {
    batch: Batch,
    refusals: Refusals,
}

/// A batch on its way, possibly in several parts.
struct Storing {
    /// The last one is next.
    attempts: Vec<Attempt>,
    /// Acknowledgements of committed messages, in the order of receipt.
    pending_acks: Vec<PendingPubAck>,
    /// The committed messages that have a trace and are to be acknowledged.
    traced: Vec<TraceContext>,
    /// Some messages are classified again: until they are committed, no later one is acknowledged.
    acks_held: bool,
    /// The messages are still to be copied.
    copy_is_due: bool,
    /// An attempt failed: it may have committed all the same, and its answer was lost.
    is_retry: bool,
}

impl Storing {
    /// The changes of state of messages that are copied are written before, in a transaction of their own.
    fn push_first(&mut self, batch: Batch) {
        if !self.copy_is_due || batch.states.is_empty() {
            return self.push(batch);
        }
        let (states, messages) = batch.split();
        self.push(messages);
        self.push(states);
    }

    /// Whether this attempt is the one that copies.
    fn copies_next(&mut self, attempt: &Attempt) -> bool {
        attempt.batch.states.is_empty() && std::mem::take(&mut self.copy_is_due)
    }

    fn push(&mut self, batch: Batch) {
        self.attempts.push(Attempt { batch, refusals: Refusals::default() });
    }
}

impl RunningWriter {
    /// Commits a batch however long it takes, then publishes and acknowledges it.
    pub(super) async fn store(&mut self, batch: Batch) {
        let copy_is_due = self.chooses_copy(&batch);
        if !copy_is_due {
            self.gathering.not_copied(batch.messages.len());
        }
        let mut storing = Storing {
            attempts: Vec::new(),
            pending_acks: Vec::new(),
            traced: Vec::new(),
            acks_held: false,
            copy_is_due,
            is_retry: false,
        };
        storing.push_first(batch);
        while let Some(mut attempt) = storing.attempts.pop() {
            if storing.copies_next(&attempt) {
                let began = Instant::now();
                let copied = self.copy(&mut attempt.batch).await;
                self.observe_step(timing::COPY, began);
                match copied {
                    Some(committed) => {
                        self.committed(attempt.batch, committed, &mut storing).await;
                        continue;
                    }
                    // The answer to the commit may have been lost.
                    None => storing.is_retry = true,
                }
            }
            let began = Instant::now();
            let committed = with_timeout(ATTEMPT_TIMEOUT, self.commit(&mut attempt.batch, storing.is_retry)).await;
            self.observe_step(timing::INSERT, began);
            match committed {
                Ok(committed) => self.committed(attempt.batch, committed, &mut storing).await,
                // On the heap: it holds the futures of probes, and is seldom needed.
                Err(error) => Box::pin(self.refused(attempt, &error, &mut storing)).await,
            }
        }
    }

    async fn committed(&mut self, batch: Batch, committed: Committed, storing: &mut Storing) {
        self.db.reset_backoff();
        self.metrics.ingest_batches.inc();
        self.observe_committed(&batch);
        if self.traces.is_on() {
            self.record_committed(&batch, &committed.deleted, &mut storing.traced);
        }
        let committed_at = Instant::now();
        let DeletedDevices { devices, messages } = self.after_commit(batch, committed, &mut storing.pending_acks);
        if !messages.is_empty() {
            storing.acks_held = true;
            let mut inbox = self.classifier.reclassify(&devices, messages);
            storing.push(self.prepare(&mut inbox).await);
        }
        if !storing.acks_held || storing.attempts.is_empty() {
            self.acks.send(storing.pending_acks.drain(..), committed_at, std::mem::take(&mut storing.traced));
        }
    }

    async fn refused(&mut self, attempt: Attempt, error: &DieselError, storing: &mut Storing) {
        storing.is_retry = true;
        self.metrics.ingest_retries.inc();
        self.months.forget_open();
        self.db.on_error(error).await;
        if TooManyParked::is_cause(error) {
            self.tend_parked().await;
        }
        let Attempt { batch, refusals } = attempt;
        let (verdict, refusals) = refusals.after(Fault::of(error), batch.n_writes());
        match verdict {
            Verdict::Retry => storing.attempts.push(Attempt { batch, refusals }),
            Verdict::Split => {
                let (first, second) = batch.split();
                storing.push(second);
                storing.attempts.push(Attempt { batch: first, refusals });
            }
            Verdict::Probe => {
                let is_taken = self.probe(&batch.without_payload()).await;
                if !is_taken {
                    self.close_refusing_month(&batch, error).await;
                }
                storing.attempts.push(Attempt { batch, refusals: Refusals::after_probe(is_taken) });
            }
            Verdict::ProbeParked => {
                self.close_refusing_month(&batch, error).await;
                storing.attempts.push(Attempt { batch, refusals });
            }
            Verdict::Quarantine => {
                let batch = self.quarantine(batch);
                storing.attempts.push(Attempt { batch, refusals });
            }
        }
    }

    /// Whether the database takes these writes, which are rolled back. Where it takes them without the devices' values, or
    /// with the reading parked, it shows what the cause of a refusal is. A full disk or a missing right refuses both.
    pub(super) async fn probe(&mut self, batch: &Batch) -> bool {
        let written = Box::pin(self.write(batch, true, Ending::RollBack));
        let written = with_timeout(ATTEMPT_TIMEOUT, written).await;
        if written.is_err() {
            self.db.close();
        }
        written.is_ok()
    }

    /// Replaces the one message that the database refuses by a rejection.
    fn quarantine(&self, mut batch: Batch) -> Batch {
        batch.effects.clear();
        batch.states.iter_mut().for_each(StateChange::remove_payload);
        for message in &mut batch.messages {
            if let Some(home) = message.outcome.home() {
                let rejected = self.classifier.quarantined(home, &message.envelope);
                message.outcome = Outcome::Rejected { reason: Rejection::NotStorable, row: Some(rejected) };
            }
        }
        batch
    }
}
