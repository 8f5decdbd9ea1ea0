//! The transaction of a batch.

use std::collections::HashSet;

use diesel::QueryResult;

use super::RunningWriter;
use crate::devices::{self, DeviceState};
use crate::ids::{DeviceId, HomeId, TelemetryId};
use crate::ingest::answers::{self, RecordedAnswers};
use crate::ingest::batch::{Batch, ClassifiedMessage, Outcome};
use crate::ingest::months::Months;
use crate::ingest::single_store::{self, InsertedOne};
use crate::ingest::store;
use crate::mqtt::Packet;
use crate::telemetry::{self, Month, NewReading};

/// How a transaction ends.
#[derive(Clone, Copy)]
pub(super) enum Ending {
    Commit,
    /// It was a probe.
    RollBack,
}

/// What a transaction wrote.
pub(super) struct Written {
    /// In the order of [`Batch::readings`]; `None` for a reading that existed, or whose device was deleted.
    reading_ids: Vec<Option<TelemetryId>>,
    /// The readings that were parked: their indices in [`Batch::readings`]. They have no id yet.
    parked: Vec<usize>,
    states: Vec<DeviceState>,
    answers: RecordedAnswers,
    packets_row: Option<i64>,
    pruned: Pruned,
}

/// What a commit wrote besides the ids of the readings, which are in the batch.
pub(super) struct Committed {
    /// Devices of the batch that were deleted: nothing of theirs was written.
    pub(super) deleted: HashSet<DeviceId>,
    /// Devices that timed out here, but that another server has heard.
    pub(super) heard_elsewhere: Vec<DeviceId>,
    pub(super) states: Vec<DeviceState>,
    pub(super) answers: RecordedAnswers,
    /// The row of the batch's packets.
    pub(super) packets_row: Option<i64>,
    pub(super) pruned: Pruned,
}

/// The pruning of rejected messages.
#[derive(Default)]
pub(super) struct Pruned {
    pub(super) homes: Vec<HomeId>,
    pub(super) n_messages: usize,
}

impl RunningWriter {
    /// Commits a batch, stores the readings' ids in it, and looks up what the statements left open. On a retry
    /// the readings may have been committed by an attempt whose answer was lost.
    pub(super) async fn commit(&mut self, batch: &mut Batch, is_retry: bool) -> QueryResult<Committed> {
        let mut written = self.write(batch, is_retry, Ending::Commit).await?;
        let conn = &*self.db.get().await;
        written.answers.look_up_unchanged(conn, batch, is_retry).await?;
        if is_retry && written.reading_ids.iter().any(Option::is_none) {
            telemetry::find_committed(conn, &batch.readings(), &mut written.reading_ids).await?;
        }
        let (missing, refused) = (not_written(batch, &written), refused_time_outs(batch, &written));
        let candidates: HashSet<DeviceId> = missing.union(&refused).copied().collect();
        let deleted =
            if candidates.is_empty() { HashSet::new() } else { devices::find_deleted(conn, &candidates).await? };
        let heard_elsewhere = refused.difference(&deleted).copied().collect();
        let Written { reading_ids, parked, states, answers, packets_row, pruned } = written;
        batch.set_reading_ids(reading_ids);
        if !parked.is_empty() {
            self.months.parked(batch.set_parked(&parked).into_iter());
        }
        Ok(Committed { deleted, heard_elsewhere, states, answers, packets_row, pruned })
    }

    /// Runs one transaction, or the statement for a reading alone.
    pub(super) async fn write(&mut self, batch: &Batch, is_retry: bool, ending: Ending) -> QueryResult<Written> {
        let readings = batch.readings();
        self.learn_months(&readings).await?;
        if let (Ending::Commit, Some((reading, packet))) = (ending, self.single_reading(batch)) {
            let client_id = self.committed_packets.client_id();
            let inserted = single_store::insert_one(self.db.get().await, reading, client_id, packet).await?;
            if let Some(inserted) = inserted {
                return Ok(Written::single(inserted));
            }
        }
        let sorted = Sorted::by(readings, &self.months);
        self.months.check_room(sorted.to_park.len())?;
        let conn = &*self.db.get().await;
        let (packets, homes) = (batch.packets(), self.retention.homes_to_prune(batch));
        // The statements are sent one after the other without waiting, and answered in one round trip. PostgreSQL
        // runs them in the order in which they are listed here, because the connection queues a statement when its
        // future is first polled and `futures_util::join!` polls its futures in the order of its list. It must not
        // become `tokio::join!`, which starts each poll with another future: the commit could then leave before an
        // insert. `tests/it/statement_order.rs` checks the order.
        let (begun, locked, ids, parked, states, answers, rejected, n_messages, packets_row, ended) = futures_util::join!(
            store::begin(conn),
            store::acquire_ingest_lock(conn),
            telemetry::insert(conn, &sorted.to_insert),
            telemetry::insert_parked(conn, &sorted.to_park),
            devices::upsert_states(conn, &batch.states),
            answers::record(conn, batch),
            store::insert_rejected(conn, batch.rejected(), is_retry),
            store::prune_rejected(conn, &homes),
            self.committed_packets.record(conn, batch.lost, &self.outbox_names, &packets),
            async {
                match ending {
                    Ending::Commit => store::commit(conn).await,
                    Ending::RollBack => store::roll_back(conn).await,
                }
            },
        );
        // In the same order: the first error is the cause, those after it its consequences. The commit has rolled
        // back then, and the caller drops the connection.
        begun.and(locked)?;
        let (ids, parked) = (ids?, parked?);
        let (reading_ids, parked) = sorted.merge(ids, &parked);
        let (states, answers) = (states?, answers?);
        rejected?;
        let pruned = Pruned { homes, n_messages: n_messages? };
        let packets_row = packets_row?;
        ended?;
        Ok(Written { reading_ids, parked, states, answers, packets_row, pruned })
    }

    /// The reading and the packet of a batch that writes nothing else: most batches up to a thousand messages a second.
    fn single_reading<'b>(&self, batch: &'b Batch) -> Option<(&'b NewReading, Option<Packet>)> {
        let Batch { messages, states, effects, lost } = batch;
        let [ClassifiedMessage { outcome: Outcome::Reading { reading, .. }, envelope, .. }] = &messages[..] else {
            return None;
        };
        let is_alone = states.is_empty() && effects.is_empty() && lost.is_none();
        let may_be_parked = self.months.any_closed();
        let has_obsolete_packets = self.committed_packets.obsolete().is_some();
        (is_alone && !may_be_parked && !has_obsolete_packets).then_some((reading, envelope.packet))
    }
}

impl Written {
    fn single(InsertedOne { reading, packets_row }: InsertedOne) -> Self {
        Self {
            reading_ids: vec![reading],
            parked: Vec::new(),
            states: Vec::new(),
            answers: RecordedAnswers::none(),
            packets_row,
            pruned: Pruned::default(),
        }
    }
}

/// The readings of a batch by what is done with them.
struct Sorted<'a> {
    to_insert: Vec<&'a NewReading>,
    /// Those whose month does not take them, with the reason.
    to_park: Vec<(&'a NewReading, &'static str)>,
    /// The index of each of them in the batch.
    parked_at: Vec<usize>,
}

impl<'a> Sorted<'a> {
    fn by(readings: Vec<&'a NewReading>, months: &Months) -> Self {
        if !months.any_closed() {
            return Self { to_insert: readings, to_park: Vec::new(), parked_at: Vec::new() };
        }
        let mut sorted = Self { to_insert: Vec::new(), to_park: Vec::new(), parked_at: Vec::new() };
        for (index, reading) in readings.into_iter().enumerate() {
            if let Some(obstacle) = months.obstacle(Month::of(reading.recorded_at)) {
                sorted.to_park.push((reading, obstacle.as_str()));
                sorted.parked_at.push(index);
            } else {
                sorted.to_insert.push(reading);
            }
        }
        sorted
    }

    /// The ids in the order of the batch, with `None` for those to be parked, and the indices of those that were parked.
    fn merge(&self, mut ids: Vec<Option<TelemetryId>>, parked: &[bool]) -> (Vec<Option<TelemetryId>>, Vec<usize>) {
        for index in &self.parked_at {
            // Indices ascend, so each is right once those before it are inserted.
            ids.insert(*index, None);
        }
        let is_parked = self.parked_at.iter().zip(parked).filter(|(_, is_parked)| **is_parked);
        (ids, is_parked.map(|(index, _)| *index).collect())
    }
}

/// The devices of which something was not written: deleted, or all of it existed already.
fn not_written(batch: &Batch, written: &Written) -> HashSet<DeviceId> {
    let readings = batch.readings();
    let is_missing = |(index, id): &(usize, &Option<TelemetryId>)| id.is_none() && !written.parked.contains(index);
    let missing = written.reading_ids.iter().enumerate().filter(is_missing);
    let mut missing: HashSet<DeviceId> = missing.map(|(index, _)| readings[index].device).collect();
    if written.states.len() < batch.states.len() {
        // A change that is left out because the device was seen meanwhile is not missing.
        let unconditional = batch.states.iter().filter(|change| change.unless_seen_since.is_none());
        missing.extend(unconditional.map(|change| change.device));
        written.states.iter().for_each(|state| _ = missing.remove(&state.device));
    }
    missing
}

/// The devices that timed out and of which the database holds a later message; or they are deleted.
fn refused_time_outs(batch: &Batch, written: &Written) -> HashSet<DeviceId> {
    let time_outs = batch.states.iter().filter(|change| change.unless_seen_since.is_some());
    let mut refused: HashSet<DeviceId> = time_outs.map(|change| change.device).collect();
    written.states.iter().for_each(|state| _ = refused.remove(&state.device));
    refused
}
