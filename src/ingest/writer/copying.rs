//! Large batches of readings, which are copied into the table. Whatever is in the way, the ordinary transaction decides.

use std::collections::HashSet;

use super::ATTEMPT_TIMEOUT;
use super::RunningWriter;
use super::transaction::{Committed, Pruned};
use crate::db::{CopyConnection, with_timeout};
use crate::error::Chain;
use crate::ingest::answers::RecordedAnswers;
use crate::ingest::batch::{Batch, Outcome};
use crate::ingest::copy_store::{self, Copied, CopiedIds, CopyFailure, TermKey};
use crate::settings::DatabaseSettings;

/// Readings of a batch from which they are copied. A copy takes one round trip more than an INSERT.
const MIN_READINGS: usize = 64;
/// Large batches after a failed copy that are inserted without trying: a reading that existed seldom comes alone.
const PAUSE: u32 = 50;

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
    /// Whether the batch is copied. Call once for each batch.
    pub(super) fn chooses_copy(&mut self, batch: &Batch) -> bool {
        self.can_be_copied(batch) && self.copier.is_ready()
    }

    /// Whether the batch can be copied, once its changes of state are written. It needs nothing but readings, and messages
    /// that write nothing else. Messages over a limit are counted in the transaction that stores them.
    fn can_be_copied(&self, batch: &Batch) -> bool {
        let mut n_readings = 0;
        let mut others = batch.messages.iter().filter(|message| match &message.outcome {
            Outcome::Reading { .. } => {
                n_readings += 1;
                false
            }
            Outcome::State | Outcome::Duplicate | Outcome::Clearing => false,
            Outcome::Rejected { row, .. } => row.is_some(),
            Outcome::CommandAnswer(..) | Outcome::ConfigAnswer(..) => true,
        });
        let is_plain = others.next().is_none() && batch.effects.is_empty() && batch.lost.is_none();
        let is_counted = batch.states.iter().any(|change| change.n_rate_limited > 0);
        is_plain && n_readings >= MIN_READINGS && !is_counted && !self.months.any_closed()
    }

    /// Commits a batch by COPY. `None` where that failed: then it may still have been committed, and the answer lost.
    pub(super) async fn copy(&mut self, batch: &mut Batch) -> Option<Committed> {
        let readings = batch.readings();
        // An error comes again in the ordinary transaction.
        with_timeout(ATTEMPT_TIMEOUT, self.learn_months(&readings)).await.ok()?;
        let (packets, devices) =
            (batch.packets(), batch.messages.iter().filter_map(|message| message.device).collect());
        let obsolete = self.committed_packets.obsolete_up_to();
        let copied = Copied { readings: &readings, devices: &devices, packets: &packets, obsolete };
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
        self.copier.n_to_insert = PAUSE;
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
        pruned: Pruned { homes: Vec::new(), n_messages: 0 },
    }
}
