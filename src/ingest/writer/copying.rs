//! Large batches of readings, which are copied into the table. Whatever is in the way, the ordinary transaction decides.

use std::collections::HashSet;

use super::ATTEMPT_TIMEOUT;
use super::RunningWriter;
use super::transaction::{Committed, Pruned};
use crate::db::{CopyConnection, with_timeout};
use crate::error::Chain;
use crate::ids::DeviceId;
use crate::ingest::answers::RecordedAnswers;
use crate::ingest::batch::{Batch, Outcome};
use crate::ingest::copy_store::{self, Copied, CopiedIds, CopyFailure, TermKey};
use crate::settings::DatabaseSettings;

/// Readings of a batch from which they are copied. A copy takes one round trip more than an INSERT.
const MIN_READINGS: usize = 64;
/// Large batches that are inserted after a failed copy, before the next one: a reading that existed seldom comes alone.
const INSERTED_AFTER_FAILURE: u32 = 50;

/// The connection that copies readings.
pub(in crate::ingest) struct Copier {
    settings: DatabaseSettings,
    term: TermKey,
    /// The connection, and the number of the writer's own connection beside which it was opened: with another one the
    /// database may be another, too.
    open: Option<(CopyConnection, u64)>,
    /// Large batches to insert before the next copy.
    n_to_insert: u32,
}

impl Copier {
    /// Opens nothing yet.
    pub(in crate::ingest) fn new(settings: DatabaseSettings, term: TermKey) -> Self {
        Self { settings, term, open: None, n_to_insert: 0 }
    }

    /// `beside` is the number of the writer's own connection.
    async fn copy(&mut self, batch: &Copied<'_>, beside: u64) -> Result<CopiedIds, CopyFailure> {
        // Dropped after a failure, and where the time is over.
        let conn = match self.open.take() {
            Some((conn, opened_beside)) if opened_beside == beside => conn,
            _ => copy_store::open(&self.settings).await?,
        };
        let ids = copy_store::copy(&conn, &self.term, batch).await?;
        self.open = Some((conn, beside));
        Ok(ids)
    }

    /// Whether the last failure is long enough ago. Call once for each large batch.
    fn is_ready(&mut self) -> bool {
        let is_ready = self.n_to_insert == 0;
        self.n_to_insert = self.n_to_insert.saturating_sub(1);
        is_ready
    }
}

impl RunningWriter {
    /// Whether the batch is to be copied. Call once for each batch.
    pub(super) fn chooses_copy(&mut self, batch: &Batch) -> bool {
        self.can_be_copied(batch) && self.copier.is_ready()
    }

    /// Whether the batch can be copied, once its changes of state are written. It needs nothing but readings, and messages
    /// that write nothing else. Messages over a limit are counted in the transaction that stores them.
    fn can_be_copied(&self, batch: &Batch) -> bool {
        let outcomes = || batch.messages.iter().map(|message| &message.outcome);
        let writes_nothing_else = outcomes().all(|outcome| match outcome {
            Outcome::Reading { .. } | Outcome::State | Outcome::Duplicate | Outcome::Clearing => true,
            Outcome::Rejected { row, .. } => row.is_none(),
            Outcome::CommandAnswer(..) | Outcome::ConfigAnswer(..) => false,
        });
        outcomes().filter(|outcome| matches!(outcome, Outcome::Reading { .. })).count() >= MIN_READINGS
            && writes_nothing_else
            && batch.effects.is_empty()
            && batch.lost.is_none()
            && batch.states.iter().all(|change| change.n_rate_limited == 0)
            && !self.months.any_closed()
    }

    /// Commits a batch by COPY. `None` where that failed: then it may still have been committed, and the answer lost.
    pub(super) async fn copy(&mut self, batch: &mut Batch) -> Option<Committed> {
        let readings = batch.readings();
        // An error comes again in the ordinary transaction.
        with_timeout(ATTEMPT_TIMEOUT, self.learn_months(&readings)).await.ok()?;
        let mut devices: Vec<i64> =
            batch.messages.iter().filter_map(|message| message.device).map(DeviceId::get).collect();
        devices.sort_unstable();
        devices.dedup();
        let (packets, obsolete) = (batch.packets(), self.committed_packets.obsolete());
        let copied = Copied { readings: &readings, devices, packets: &packets, obsolete };
        let copied = tokio::time::timeout(ATTEMPT_TIMEOUT, self.copier.copy(&copied, self.db.number())).await;
        let failure = match copied {
            Ok(Ok(ids)) => {
                self.metrics.ingest_copied.inc();
                batch.set_reading_ids(ids.readings.into_iter().map(Some).collect());
                return Some(committed(ids.packets_row));
            }
            Ok(Err(failure)) => Chain(&failure).to_string(),
            Err(_) => "no answer in time".to_owned(),
        };
        tracing::debug!(failure, "readings were not copied; inserting them");
        self.metrics.ingest_not_copied.inc();
        self.copier.n_to_insert = INSERTED_AFTER_FAILURE;
        None
    }
}

fn committed(packets_row: Option<i64>) -> Committed {
    Committed {
        deleted: HashSet::new(),
        heard_elsewhere: Vec::new(),
        states: Vec::new(),
        answers: RecordedAnswers::none(),
        packets_row,
        pruned: Pruned::default(),
    }
}
