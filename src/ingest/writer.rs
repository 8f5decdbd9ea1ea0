//! The writer: the one task that commits every message.

mod after_commit;
mod copying;
mod gathering;
mod parking;
mod storing;
mod timing;
mod traced;
mod transaction;
mod verdict;

use std::time::{Duration, Instant};

use diesel::QueryResult;
use tokio::sync::{mpsc, watch};
use tokio::time::sleep_until;

pub(super) use copying::Copier;
pub use timing::BATCH_STEPS;

use super::MAX_BATCH;
use super::batch::Batch;
use super::candidate::Term;
use super::classifier::Classifier;
use super::committed_packets::CommittedPackets;
use super::daily_storage::DailyStorage;
use super::device_limits::DeviceLimits;
use super::months::Months;
use super::pending_updates::PendingUpdates;
use super::progress::Progress;
use super::rejection_recorder::RejectionRecorder;
use super::retention::Retention;
use super::saturation::Saturation;
use super::uptime_clocks::UptimeClocks;
use super::writer_connection::WriterConnection;
use crate::clock::Clock;
use crate::commands::{CommandHub, Expectations, ReturnedDevices};
use crate::db::{self, with_timeout};
use crate::device_config::ConfigHub;
use crate::devices::{Directory, PresenceTracker, RegistryChanges, ResolvedDevice, StateHub};
use crate::ids::TelemetryId;
use crate::latch::Latch;
use crate::metrics::Metrics;
use crate::mqtt::{BrokerEvent, LinkHandles, PubAcks};
use crate::outbox::Wake;
use crate::settings::DeviceLimit;
use crate::telemetry::{self, Partitions, ReadingHub};
use crate::traces::Traces;
use gathering::Gathering;
use traced::BatchTimes;

/// Longest wait for a database that neither answers nor closes the connection. The statement timeout is shorter,
/// so this is for a network that drops everything.
pub(super) const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(35);

/// Messages that were in the queue and in their batch for longer than this waited for the database: meanwhile no device
/// counts as silent.
pub(super) const LONG_OUTAGE: Duration = Duration::from_secs(10);

/// What the writer needs.
#[derive(Clone)]
pub struct WriterParts {
    /// Silence after which a device counts as offline.
    pub presence_timeout: Duration,
    pub device_limit: Option<DeviceLimit>,
    /// Bytes of readings that a device may store in a day; `None` for no limit.
    pub daily_storage: Option<u64>,
    /// Raised by every change of the registry.
    pub registry_changes: RegistryChanges,
    pub readings: ReadingHub,
    pub states: StateHub,
    pub commands: CommandHub,
    pub configs: ConfigHub,
    /// Open commands that succeed once their effect is seen.
    pub expectations: Expectations,
    /// Receives the devices that came back.
    pub returned_devices: ReturnedDevices,
    /// Asked for the partitions that are missing or detached.
    pub partitions: Partitions,
    /// Each outbox's name and what wakes its dispatcher.
    pub outboxes: [(&'static str, Wake); 2],
    /// Learns how long messages wait.
    pub progress: Progress,
    pub metrics: Metrics,
    pub traces: Traces,
    pub clock: Clock,
}

/// Commits messages until the link has closed its end of the queue and the queue is empty. Sets `ready` once it can store:
/// the link connects only then.
pub async fn run_writer(parts: WriterParts, term: Term, link: LinkHandles, ready: Latch) {
    let writer = Box::pin(RunningWriter::start(parts, term, link)).await;
    ready.set();
    Box::pin(writer.run()).await;
}

/// A writer that knows the broker session and can store.
struct RunningWriter {
    db: WriterConnection,
    events: mpsc::Receiver<BrokerEvent>,
    connected: watch::Receiver<bool>,
    link_has_ended: bool,
    acks: PubAcks,
    recorded_losses: watch::Sender<u64>,
    /// The latch for which the link waits before it connects again.
    unverified: watch::Receiver<Latch>,
    classifier: Classifier,
    committed_packets: CommittedPackets,
    copier: Copier,
    gathering: Gathering,
    months: Months,
    partitions: Partitions,
    /// Changes when the task for partitions has made one that was missing.
    made: watch::Receiver<u64>,
    retention: Retention,
    readings: ReadingHub,
    states: StateHub,
    commands: CommandHub,
    expectations: Expectations,
    returned_devices: ReturnedDevices,
    configs: ConfigHub,
    outboxes: [Wake; 2],
    outbox_names: [&'static str; 2],
    progress: Progress,
    metrics: Metrics,
    traces: Traces,
    /// When the steps of the present batch ran; of traced messages only.
    times: BatchTimes,
    clock: Clock,
}

/// What the writer waits for.
enum Event {
    /// The number of messages received; 0 once the queue is closed and empty.
    Messages(usize),
    /// [`Classifier::next_deadline`] or [`Months::next_deadline`] has come.
    Deadline,
    /// The link went up or down.
    Link,
    /// The task for partitions has made one.
    Partition,
    LinkEnded,
}

/// What was committed before this process started.
struct Stored {
    committed_packets: CommittedPackets,
    /// Devices that were online.
    online: Vec<ResolvedDevice>,
    newest_reading: TelemetryId,
}

impl Stored {
    async fn load(conn: &mut db::Connection, client_id: &str, group_prefix: Option<&str>) -> QueryResult<Self> {
        Ok(Self {
            committed_packets: CommittedPackets::load(conn, client_id, group_prefix).await?,
            online: Directory::online(conn).await?,
            newest_reading: telemetry::last_cursor(conn).await?,
        })
    }
}

impl RunningWriter {
    /// Waits for the database as long as it takes.
    async fn start(parts: WriterParts, term: Term, link: LinkHandles) -> Self {
        let mut db = term.db;
        let (client_id, group_prefix) = (db.client_id().to_owned(), db.group_prefix().map(str::to_owned));
        let stored = loop {
            let loaded = Stored::load(db.get().await, &client_id, group_prefix.as_deref());
            match with_timeout(ATTEMPT_TIMEOUT, loaded).await {
                Ok(stored) => break stored,
                Err(error) => db.on_error(&error).await,
            }
        };
        db.reset_backoff();
        let mut presence = PresenceTracker::new(parts.presence_timeout);
        for device in stored.online {
            presence.expect(device, Instant::now());
        }
        parts.readings.advance(stored.newest_reading);
        Self {
            db,
            events: link.events,
            connected: link.connected,
            link_has_ended: false,
            acks: link.acks,
            recorded_losses: link.recorded_losses,
            unverified: link.unverified,
            classifier: Classifier {
                directory: Directory::new(parts.registry_changes),
                presence,
                limits: DeviceLimits::new(parts.device_limit),
                storage: DailyStorage::new(parts.daily_storage),
                pending: PendingUpdates::default(),
                rejections: RejectionRecorder::default(),
                uptime_clocks: UptimeClocks::default(),
                behind_since: None,
                saturation: Saturation::default(),
                expectations: parts.expectations.clone(),
                metrics: parts.metrics.clone(),
            },
            committed_packets: stored.committed_packets,
            copier: term.copier,
            gathering: Gathering::default(),
            months: Months::new(parts.metrics.ingest_parked.clone(), parts.progress.clone(), parts.clock.clone()),
            made: parts.partitions.made(),
            partitions: parts.partitions,
            retention: Retention::default(),
            readings: parts.readings,
            states: parts.states,
            commands: parts.commands,
            expectations: parts.expectations,
            returned_devices: parts.returned_devices,
            configs: parts.configs,
            outbox_names: parts.outboxes.each_ref().map(|(name, _)| *name),
            outboxes: parts.outboxes.map(|(_, wake)| wake),
            progress: parts.progress,
            metrics: parts.metrics,
            traces: parts.traces,
            times: BatchTimes::default(),
            clock: parts.clock,
        }
    }

    async fn run(mut self) {
        let mut inbox: Vec<BrokerEvent> = Vec::with_capacity(MAX_BATCH);
        loop {
            let idle_since = Instant::now();
            let event = self.next_event(&mut inbox).await;
            let (began, waited) = (Instant::now(), self.waited(&inbox));
            self.classifier.saturation.add_idle(began - idle_since);
            self.progress.begin(waited);
            match event {
                Event::Messages(0) => {
                    let pending = self.classifier.all_pending();
                    return self.store_states(pending).await;
                }
                Event::Messages(_) => self.on_messages(&mut inbox).await,
                Event::Deadline => {
                    let due = self.classifier.due_changes(self.clock.now(), *self.connected.borrow());
                    self.store_states(due).await;
                    self.revalidate().await;
                }
                // Left for `tend_parked`.
                Event::Partition => self.made.mark_changed(),
                Event::Link => self.on_link().await,
                Event::LinkEnded => self.link_has_ended = true,
            }
            if self.parking_is_due() {
                Box::pin(self.tend_parked()).await;
            }
            self.progress.end();
            if waited + began.elapsed() > LONG_OUTAGE {
                // Messages waited for the database: their devices were not silent.
                self.classifier.presence.restart(Instant::now());
            }
        }
    }

    /// How long the oldest of the messages has been in the queue.
    fn waited(&self, inbox: &[BrokerEvent]) -> Duration {
        let received_at = inbox.iter().find_map(|event| match event {
            BrokerEvent::Message(message) => Some(message.received_at),
            BrokerEvent::SessionLost(_) => None,
        });
        // The clock may have been set back since.
        received_at.and_then(|at| (self.clock.now() - at).to_std().ok()).unwrap_or_default()
    }

    async fn next_event(&mut self, inbox: &mut Vec<BrokerEvent>) -> Event {
        if !self.link_has_ended && self.connected.has_changed().unwrap_or(false) {
            return Event::Link;
        }
        let of_devices = self.classifier.next_deadline(*self.connected.borrow());
        let deadline = of_devices.into_iter().chain([self.months.next_deadline()]).min().expect("one at least");
        tokio::select! {
            n = self.events.recv_many(inbox, MAX_BATCH) => Event::Messages(n),
            () = sleep_until(deadline.into()) => Event::Deadline,
            Ok(()) = self.made.changed() => Event::Partition,
            // An error means that the link has ended. The queue closes once its last message is taken.
            changed = self.connected.changed(), if !self.link_has_ended => match changed {
                Ok(()) => Event::Link,
                Err(_) => Event::LinkEnded,
            },
        }
    }

    /// While the link was down no message could arrive: every device has its whole time-out again. A link that went down may
    /// have been taken over by the server that ingests now, because this one has lost its locks without noticing; one that came
    /// up may have taken the session from that server.
    async fn on_link(&mut self) {
        if *self.connected.borrow_and_update() {
            self.classifier.presence.restart(Instant::now());
            Box::pin(self.db.verify()).await;
            Box::pin(self.db.join_group()).await;
        } else {
            let verified = self.unverified.borrow_and_update().clone();
            tokio::select! {
                biased;
                // Set already if the link does not wait, or no longer: at the stop.
                () = verified.wait() => {}
                () = Box::pin(self.db.verify()) => verified.set(),
            }
        }
    }

    async fn on_messages(&mut self, inbox: &mut Vec<BrokerEvent>) {
        self.gathering.gather(&mut self.events, inbox).await;
        let n = inbox.len();
        let (n_waiting, capacity) = (self.events.len(), self.events.max_capacity());
        self.classifier.observe_queue(n_waiting, capacity, self.clock.now());
        self.metrics.ingest_queue.set(i64::try_from(n_waiting).unwrap_or(i64::MAX));
        self.observe_taken(inbox);
        let batch = self.prepare(inbox).await;
        self.store(batch).await;
        self.classifier.observe_in_flight(n + self.events.len());
        if self.events.is_empty() {
            self.revalidate().await;
        }
    }

    /// Stores a batch that has state changes only.
    async fn store_states(&mut self, batch: Batch) {
        if !batch.states.is_empty() {
            self.store(batch).await;
        }
    }

    /// Makes a batch of the messages, after looking up the names that are new in them.
    async fn prepare(&mut self, inbox: &mut Vec<BrokerEvent>) -> Batch {
        loop {
            let began = Instant::now();
            let looked_up = self.classifier.look_up(self.db.get().await, inbox);
            let looked_up = with_timeout(ATTEMPT_TIMEOUT, looked_up).await;
            self.observe_step(timing::LOOK_UP, began);
            let Err(error) = looked_up else { break };
            self.metrics.ingest_retries.inc();
            self.db.on_error(&error).await;
        }
        self.db.reset_backoff();
        self.classifier.batch(inbox.drain(..), &mut self.committed_packets)
    }

    /// Looks up old names again, when no message waits or they have waited long enough.
    async fn revalidate(&mut self) {
        let revalidated = self.classifier.revalidate(self.db.get().await);
        if let Err(error) = with_timeout(ATTEMPT_TIMEOUT, revalidated).await {
            self.db.on_error(&error).await;
        }
    }
}
