//! Parked readings: which months are open again, and moving their readings into `telemetry`, step by step between batches.

use std::time::{Duration, Instant};

use diesel::QueryResult;
use diesel::result::Error as DieselError;

use super::verdict::Fault;
use super::{ATTEMPT_TIMEOUT, RunningWriter};
use crate::db::with_timeout;
use crate::error::is_of_lock;
use crate::ingest::batch::Batch;
use crate::ingest::months::{MAX_PARKED, Obstacle, Step};
use crate::ingest::store;
use crate::telemetry::{self, Month, MonthTable, NewReading, ParkedPosition, Reading};

/// Longest wait for a lock to create a month's partition. Meanwhile its readings are parked, and a task waits.
const MAX_LOCK_WAIT: Duration = Duration::from_millis(200);

impl RunningWriter {
    /// Learns whether the months of these readings take any.
    pub(super) async fn learn_months(&mut self, readings: &[&NewReading]) -> QueryResult<()> {
        for reading in readings {
            self.learn_month(Month::of(reading.recorded_at)).await?;
        }
        Ok(())
    }

    /// Learns whether a month takes readings. Creates its partition where it is missing, if that needs no waiting. Attaching
    /// a table may take long, so that is left to a task.
    pub(super) async fn learn_month(&mut self, month: Month) -> QueryResult<()> {
        if self.months.is_known(month) {
            return Ok(());
        }
        match telemetry::ensure_month(self.db.get().await, month, MAX_LOCK_WAIT).await? {
            MonthTable::Attached => self.months.open(month),
            MonthTable::Detached => self.close_without_partition(month, Obstacle::Detached, None),
            MonthTable::Missing(error) => self.close_without_partition(month, Obstacle::Missing, Some(&error)),
        }
        Ok(())
    }

    fn close_without_partition(&mut self, month: Month, obstacle: Obstacle, error: Option<&DieselError>) {
        self.months.close_without_partition(month, obstacle, error);
        self.partitions.want(month);
    }

    /// Closes the month of the one reading of a batch that the database refuses, if it takes the same batch with the reading
    /// parked: the fault is then neither the database's nor the device's.
    pub(super) async fn close_refusing_month(&mut self, batch: &Batch, error: &DieselError) {
        let readings = batch.readings();
        let [reading] = readings[..] else { return };
        let month = Month::of(reading.recorded_at);
        if self.months.obstacle(month).is_some() {
            return;
        }
        self.months.close_for_probe(month);
        let is_written = self.probe(batch).await;
        self.months.forget(month);
        if is_written {
            self.months.close_refusing(month, error);
        }
    }

    /// Whether something is to be done for parked readings.
    pub(super) fn parking_is_due(&self) -> bool {
        self.made.has_changed().unwrap_or(false) || self.months.next_deadline() <= Instant::now()
    }

    /// Does one thing for parked readings, if one is due.
    pub(super) async fn tend_parked(&mut self) {
        match self.try_tend_parked().await {
            Ok(()) => self.db.reset_backoff(),
            Err(error) => {
                self.metrics.ingest_retries.inc();
                self.db.on_error(&error).await;
            }
        }
    }

    async fn try_tend_parked(&mut self) -> QueryResult<()> {
        let now = Instant::now();
        if self.made.has_changed().unwrap_or(false) || self.months.look_is_due(now) {
            self.made.mark_unchanged();
            with_timeout(ATTEMPT_TIMEOUT, self.reopen_months()).await?;
        }
        if self.months.look_is_due(now) {
            with_timeout(ATTEMPT_TIMEOUT, self.look_for_parked()).await?;
        }
        match self.months.next_step(now) {
            Some(step) => self.move_parked(step).await,
            None => Ok(()),
        }
    }

    /// Opens the months that have a partition now.
    async fn reopen_months(&mut self) -> QueryResult<()> {
        for month in self.months.without_partition() {
            if telemetry::is_attached(self.db.get().await, month).await? {
                self.months.open(month);
            } else {
                self.partitions.want(month);
            }
        }
        Ok(())
    }

    async fn look_for_parked(&mut self) -> QueryResult<()> {
        let conn = self.db.get().await;
        let n_parked = telemetry::count_parked(conn, MAX_PARKED).await?;
        let months = if n_parked == 0 { Vec::new() } else { telemetry::find_parked_months(conn).await? };
        self.months.looked(n_parked, months);
        Ok(())
    }

    async fn move_parked(&mut self, step: Step) -> QueryResult<()> {
        let Some(found) = with_timeout(ATTEMPT_TIMEOUT, self.find_parked(step)).await? else { return Ok(()) };
        let Some(last) = found.last().copied() else {
            self.months.end_of_month(step);
            return Ok(());
        };
        match self.commit_move(step, &found).await {
            Ok(_) if step.is_probe => self.months.probed(step),
            Ok(readings) => {
                self.months.moved(step, last, found.len());
                readings.into_iter().for_each(|reading| self.publish_moved(reading));
            }
            Err(error) if Fault::of(&error) != Fault::Database => {
                with_timeout(ATTEMPT_TIMEOUT, self.learn_again(step.month)).await?;
                self.months.refused(step, last, found.len(), &error);
            }
            Err(error) if is_of_lock(&error) => self.months.locked(step, &error),
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// The parked readings of a step, unless their month has no partition.
    async fn find_parked(&mut self, step: Step) -> QueryResult<Option<Vec<ParkedPosition>>> {
        self.learn_month(step.month).await?;
        if self.months.obstacle(step.month).is_some_and(|obstacle| obstacle != Obstacle::Refused) {
            return Ok(None);
        }
        telemetry::find_parked(self.db.get().await, step.month, step.after, step.limit).await.map(Some)
    }

    /// The partition may have been detached.
    async fn learn_again(&mut self, month: Month) -> QueryResult<()> {
        if !telemetry::is_attached(self.db.get().await, month).await? {
            self.months.forget(month);
            self.learn_month(month).await?;
        }
        Ok(())
    }

    /// Moves parked readings in one transaction. An error means that nothing was moved.
    async fn commit_move(&mut self, step: Step, parked: &[ParkedPosition]) -> QueryResult<Vec<Reading>> {
        let readings = with_timeout(ATTEMPT_TIMEOUT, self.begin_move(step, parked)).await?;
        if step.is_probe {
            return Ok(Vec::new());
        }
        let commit = async { store::commit(&*self.db.get().await).await };
        let Err(error) = with_timeout(ATTEMPT_TIMEOUT, commit).await else { return Ok(readings) };
        // The answer may be lost, and the commit done. Nothing newer is published before that is known.
        self.db.on_error(&error).await;
        if self.is_committed(&readings).await { Ok(readings) } else { Err(error) }
    }

    async fn begin_move(&mut self, step: Step, parked: &[ParkedPosition]) -> QueryResult<Vec<Reading>> {
        let conn = &*self.db.get().await;
        // In one round trip and in this order: see `RunningWriter::write`.
        let (begun, locked, moved) = futures_util::join!(
            store::begin(conn),
            store::acquire_ingest_lock(conn),
            telemetry::move_parked(conn, parked),
        );
        let moved = begun.and(locked).and(moved);
        if moved.is_err() || step.is_probe {
            store::roll_back(conn).await?;
        }
        moved
    }

    async fn is_committed(&mut self, readings: &[Reading]) -> bool {
        let Some(first) = readings.first() else { return false };
        loop {
            match with_timeout(ATTEMPT_TIMEOUT, telemetry::is_committed(self.db.get().await, first)).await {
                Ok(is_committed) => return is_committed,
                Err(error) => self.db.on_error(&error).await,
            }
        }
    }

    fn publish_moved(&self, reading: Reading) {
        if self.readings.has_subscriber(reading.home, reading.device) {
            self.readings.publish(reading);
        } else {
            self.readings.advance(reading.id);
        }
    }
}
