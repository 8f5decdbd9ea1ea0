//! The writer: the one task through which every message is committed.

mod finish;

use std::collections::HashSet;
use std::time::{Duration, Instant};

use diesel::QueryResult;
use diesel::result::Error as DieselError;
use diesel_async::AsyncPgConnection;
use tokio::sync::watch;
use tokio::time::{sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::MAX_BATCH;
use super::answers::{self, Answered};
use super::batch::{Batch, Outcome};
use super::connection::{Connection, may_be_poison, no_answer};
use super::prepare::Judge;
use super::retention::Retention;
use super::session::Session;
use super::store;
use crate::clock::Clock;
use crate::commands::{CommandHub, Expectations};
use crate::device_config::ConfigHub;
use crate::devices::{self, DeviceState, Directory, DirectoryVersion, PresenceTracker, StateChange, StateHub};
use crate::ids::{DeviceId, HomeId, TelemetryId};
use crate::metrics::Metrics;
use crate::mqtt::{Acks, BrokerEvent, LinkHandles, Rejection};
use crate::outbox::Wake;
use crate::settings::{DatabaseSettings, DeviceLimit, MqttSettings};
use crate::telemetry::{self, Month, ReadingHub};

/// What the writer is made of.
pub struct WriterParts {
    /// Where to store.
    pub database: DatabaseSettings,
    /// Whose session, which prefix.
    pub mqtt: MqttSettings,
    /// Silence after which a device counts as offline.
    pub presence_timeout: Duration,
    /// How much one device may say.
    pub device_limit: Option<DeviceLimit>,
    /// Where messages come from and acknowledgements go.
    pub link: LinkHandles,
    /// Raised by every change of the registry.
    pub directory_version: DirectoryVersion,
    /// Where committed readings go.
    pub readings: ReadingHub,
    /// Where committed states go.
    pub states: StateHub,
    /// Where changed commands go.
    pub commands: CommandHub,
    /// Where changed configurations go.
    pub configs: ConfigHub,
    /// Commands that are done once their effect is seen.
    pub expectations: Expectations,
    /// The outboxes by name, and what wakes their dispatchers.
    pub outboxes: [(&'static str, Wake); 2],
    /// Counters.
    pub metrics: Metrics,
    /// For the time of an offline judgement.
    pub clock: Clock,
    /// Cancelled once the writer can store: before that the link has nothing to do.
    pub ready: CancellationToken,
}

/// Commits what comes from the link.
pub struct Writer {
    db: Connection,
    link: Option<LinkHandles>,
    acks: Acks,
    acknowledged_losses: watch::Sender<u64>,
    ready: CancellationToken,
    client_id: String,
    judge: Judge,
    session: Option<Session>,
    months: HashSet<Month>,
    retention: Retention,
    readings: ReadingHub,
    states: StateHub,
    commands: CommandHub,
    expectations: Expectations,
    configs: ConfigHub,
    outboxes: [Wake; 2],
    outbox_names: [&'static str; 2],
    metrics: Metrics,
    clock: Clock,
}

/// Longest wait for a database that neither answers nor goes away; its own statement time-out is
/// shorter, so this is for a network that swallows everything.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(35);

/// Storing that took longer than this stood still: silence meanwhile says nothing of any device.
const LONG_OUTAGE: Duration = Duration::from_secs(10);

/// What the writer turns to.
enum Turn {
    /// So many messages came; 0 at the end of all.
    Messages(usize),
    /// The time of a device or of a sign of life has come.
    Deadline,
    /// The link went up or down, or is gone for good.
    Link(bool),
}

/// How a transaction ends.
#[derive(Clone, Copy)]
enum Ending {
    Commit,
    /// It was only to see whether the database would take it.
    RollBack,
}

/// What a commit brought.
struct Committed {
    /// For each reading of the batch, in order.
    ids: Vec<Option<TelemetryId>>,
    /// Devices of the batch that are no more: nothing of theirs was written.
    gone: HashSet<DeviceId>,
    states: Vec<DeviceState>,
    answered: Answered,
    session_row: Option<i64>,
    /// Homes whose oldest rejected messages were deleted, and how many were.
    pruned: (Vec<HomeId>, usize),
}

impl Writer {
    /// A writer at rest.
    pub fn new(parts: WriterParts) -> Self {
        let judge = Judge::new(
            parts.mqtt.prefix,
            Directory::new(parts.directory_version),
            PresenceTracker::new(parts.presence_timeout),
            parts.device_limit,
            parts.expectations.clone(),
            parts.metrics.clone(),
        );
        Self {
            db: Connection::new(parts.database, &parts.mqtt.client_id),
            acks: parts.link.acks.clone(),
            acknowledged_losses: parts.link.acknowledged_losses.clone(),
            ready: parts.ready,
            link: Some(parts.link),
            client_id: parts.mqtt.client_id,
            judge,
            session: None,
            months: HashSet::new(),
            retention: Retention::default(),
            readings: parts.readings,
            states: parts.states,
            commands: parts.commands,
            expectations: parts.expectations,
            configs: parts.configs,
            outbox_names: parts.outboxes.each_ref().map(|(name, _)| *name),
            outboxes: parts.outboxes.map(|(_, wake)| wake),
            metrics: parts.metrics,
            clock: parts.clock,
        }
    }

    /// Commits until the link has closed its end and everything queued is done.
    pub async fn run(mut self) {
        let Some(LinkHandles { mut deliveries, mut connected, .. }) = self.link.take() else { return };
        self.begin().await;
        let mut inbox: Vec<BrokerEvent> = Vec::with_capacity(MAX_BATCH);
        let mut link_is_gone = false;
        loop {
            if !link_is_gone && connected.has_changed().unwrap_or(false) && *connected.borrow_and_update() {
                self.judge.presence.restart(Instant::now());
            }
            let is_up = *connected.borrow();
            let deadline = self.judge.next_deadline(is_up);
            let turn = tokio::select! {
                n = deliveries.recv_many(&mut inbox, MAX_BATCH) => Turn::Messages(n),
                () = sleep_until(deadline.unwrap_or_else(Instant::now).into()), if deadline.is_some() => Turn::Deadline,
                // An error says that the link is gone; its queue tells when all is done.
                changed = connected.changed(), if !link_is_gone => Turn::Link(changed.is_err()),
            };
            let began = Instant::now();
            match turn {
                Turn::Messages(0) => {
                    let last = self.judge.last_signs();
                    if !last.states.is_empty() {
                        self.store(last).await;
                    }
                    return;
                }
                Turn::Messages(_) => {
                    self.judge.limits.waiting(deliveries.len(), deliveries.max_capacity(), self.clock.now());
                    let batch = self.prepare(&mut inbox).await;
                    self.store(batch).await;
                    if deliveries.is_empty() {
                        self.revalidate().await;
                    }
                }
                Turn::Deadline => {
                    let batch = self.judge.timed(self.clock.now());
                    if !batch.states.is_empty() {
                        self.store(batch).await;
                    }
                }
                Turn::Link(is_gone) => {
                    link_is_gone = is_gone;
                    if *connected.borrow_and_update() {
                        self.judge.presence.restart(Instant::now());
                    }
                }
            }
            if began.elapsed() > LONG_OUTAGE {
                // Messages waited for the database: their devices were not silent.
                self.judge.presence.restart(Instant::now());
            }
        }
    }

    /// Learns what an earlier life left: deliveries of the session, devices that stand as online.
    async fn begin(&mut self) {
        loop {
            let learned = timeout(ATTEMPT_TIMEOUT, Self::learn(self.db.get().await, &self.client_id)).await;
            match learned.unwrap_or_else(|_| Err(no_answer())) {
                Ok((session, online, newest)) => {
                    self.db.reset_backoff();
                    self.session = Some(session);
                    for known in online {
                        self.judge.presence.expect(known, Instant::now());
                    }
                    self.readings.advance(newest);
                    self.ready.cancel();
                    return;
                }
                Err(error) => self.db.on_error(&error).await,
            }
        }
    }

    async fn learn(
        conn: &mut AsyncPgConnection,
        client_id: &str,
    ) -> QueryResult<(Session, Vec<devices::ResolvedDevice>, TelemetryId)> {
        let session = Session::recall(conn, client_id).await?;
        let online = Directory::online(conn).await?;
        let newest = telemetry::last_cursor(conn).await?;
        Ok((session, online, newest))
    }

    /// Judges what came, asking the database for names it does not know.
    async fn prepare(&mut self, inbox: &mut Vec<BrokerEvent>) -> Batch {
        loop {
            let looked_up = timeout(ATTEMPT_TIMEOUT, self.judge.look_up(self.db.get().await, inbox)).await;
            let Err(error) = looked_up.unwrap_or_else(|_| Err(no_answer())) else { break };
            self.metrics.ingest_retries.inc();
            self.db.on_error(&error).await;
        }
        self.db.reset_backoff();
        let session = self.session.as_mut().expect("begun");
        self.judge.batch(inbox.drain(..), session)
    }

    async fn revalidate(&mut self) {
        let asked = timeout(ATTEMPT_TIMEOUT, self.judge.revalidate(self.db.get().await)).await;
        if let Err(error) = asked.unwrap_or_else(|_| Err(no_answer())) {
            self.db.on_error(&error).await;
        }
    }

    /// Commits a batch however long it takes, then publishes and acknowledges it.
    async fn store(&mut self, batch: Batch) {
        let (mut todo, mut receipts, mut is_held_up) = (vec![batch], Vec::new(), false);
        let (mut n_refusals, mut is_suspect, mut is_retry) = (0, false, false);
        while let Some(batch) = todo.pop() {
            let attempt = timeout(ATTEMPT_TIMEOUT, self.attempt(&batch, is_retry)).await;
            match attempt.unwrap_or_else(|_| Err(no_answer())) {
                Ok(committed) => {
                    (n_refusals, is_suspect) = (0, false);
                    self.db.reset_backoff();
                    self.metrics.ingest_batches.inc();
                    let gone = self.finish(batch, committed, &mut receipts);
                    if !gone.rows.is_empty() {
                        is_held_up = true;
                        let mut came = self.judge.once_more(&gone.devices, gone.rows);
                        todo.push(self.prepare(&mut came).await);
                    }
                    // In the order of receipt: what is judged once more holds up what came after it.
                    if !is_held_up || todo.is_empty() {
                        self.acks.send(receipts.drain(..));
                    }
                }
                Err(error) => {
                    is_retry = true;
                    self.metrics.ingest_retries.inc();
                    self.months.clear();
                    n_refusals = if may_be_poison(&error) { n_refusals + 1 } else { 0 };
                    self.db.on_error(&error).await;
                    if n_refusals < 2 {
                        todo.push(batch);
                    } else if batch.rows.len() + batch.states.len() > 1 {
                        // Twice refused by a database that answers: halve down to the one to blame.
                        let (first, second) = batch.split();
                        todo.extend([second, first]);
                        n_refusals = 1;
                    } else if is_suspect {
                        todo.push(self.blame(batch));
                        is_suspect = false;
                    } else {
                        // Once more at least: the database may have recovered just before it was asked.
                        is_suspect = self.would_take_another(&batch).await;
                        n_refusals = usize::from(is_suspect);
                        todo.push(batch);
                    }
                }
            }
        }
    }

    /// Whether the database takes the same writes where they say nothing, so that it is what this message
    /// says that it refuses. A full disk, a missing right and the like refuse both.
    async fn would_take_another(&mut self, batch: &Batch) -> bool {
        let mute = batch.mute();
        let tried = timeout(ATTEMPT_TIMEOUT, self.write(&mute, true, Ending::RollBack)).await;
        let taken = matches!(tried, Ok(Ok(_)));
        if !taken {
            self.db.close();
        }
        taken
    }

    /// Puts a rejection in the place of the one message the database refuses. Should even that be
    /// refused, it is the database that is ill, and it is tried again for ever.
    fn blame(&self, mut batch: Batch) -> Batch {
        batch.effects.clear();
        batch.states.iter_mut().for_each(StateChange::mute);
        for row in &mut batch.rows {
            let home = match &row.outcome {
                Outcome::Reading(reading) => Some(reading.home),
                Outcome::CommandAnswer(home, _) | Outcome::ConfigAnswer(home, _) => Some(*home),
                Outcome::State | Outcome::Duplicate | Outcome::Rejected(..) => None,
            };
            if let Some(home) = home {
                let kept = self.judge.refused(home, &row.source);
                row.outcome = Outcome::Rejected(Rejection::NotStorable.as_str(), Some(kept));
            }
        }
        batch
    }

    /// Commits a batch and looks at what it could not tell by itself. A retry may find its readings
    /// committed by an attempt whose answer was lost.
    async fn attempt(&mut self, batch: &Batch, is_retry: bool) -> QueryResult<Committed> {
        let mut committed = self.write(batch, is_retry, Ending::Commit).await?;
        let conn = &*self.db.get().await;
        committed.answered.complete(conn, batch, is_retry).await?;
        let readings = batch.readings();
        if is_retry && committed.ids.iter().any(Option::is_none) {
            telemetry::find_committed(conn, &readings, &mut committed.ids).await?;
        }
        let missing = readings.iter().zip(&committed.ids).filter(|(_, id)| id.is_none());
        let mut missing: HashSet<DeviceId> = missing.map(|(reading, _)| reading.device).collect();
        if committed.states.len() < batch.states.len() {
            // What is not to be written of a device that was seen is not missing.
            let to_be_written = batch.states.iter().filter(|change| change.unless_seen_since.is_none());
            missing.extend(to_be_written.map(|change| change.device));
            committed.states.iter().for_each(|state| _ = missing.remove(&state.device));
        }
        if !missing.is_empty() {
            committed.gone = devices::find_deleted(conn, &missing).await?;
        }
        Ok(committed)
    }

    /// One transaction.
    async fn write(&mut self, batch: &Batch, is_retry: bool, ending: Ending) -> QueryResult<Committed> {
        let conn = self.db.get().await;
        let session = self.session.as_ref().expect("begun");
        let readings = batch.readings();
        for reading in &readings {
            let month = Month::of(reading.recorded_at);
            if !self.months.contains(&month) {
                // Never the fault of the reading: it is kept until the month can be made.
                let made = telemetry::ensure_month(conn, month).await;
                made.map_err(|error| DieselError::QueryBuilderError(Box::new(error)))?;
                self.months.insert(month);
            }
        }
        // Sent one behind the other and answered in one round trip; the database works in their order.
        // After an error the commit rolls back, and the connection is dropped.
        let (conn, packets, due) = (&*conn, batch.packets(), self.retention.due(batch));
        let (begun, passed, ids, states, answered, kept, n_pruned, session_row, ended) = futures_util::join!(
            store::begin(conn),
            store::pass_gate(conn),
            telemetry::insert(conn, &readings),
            devices::upsert_states(conn, &batch.states),
            answers::record(conn, batch),
            store::keep_rejected(conn, batch.rejected(), is_retry),
            store::prune_rejected(conn, &due),
            session.remember(conn, batch.lost, &self.outbox_names, &packets),
            async {
                match ending {
                    Ending::Commit => store::commit(conn).await,
                    Ending::RollBack => store::roll_back(conn).await,
                }
            },
        );
        begun.and(passed)?;
        // In the order of sending, so that the first error is the cause and not its consequence.
        let (ids, states, answered) = (ids?, states?, answered?);
        kept?;
        let pruned = (due, n_pruned?);
        let session_row = session_row?;
        ended?;
        Ok(Committed { ids, gone: HashSet::new(), states, answered, session_row, pruned })
    }
}
