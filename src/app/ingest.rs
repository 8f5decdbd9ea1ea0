//! The thread of the MQTT connection and the writer, and the terms in which they run.

use std::panic::resume_unwind;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::Parts;
use crate::backoff::Backoff;
use crate::commands::CommandOutbox;
use crate::device_config::ConfigOutbox;
use crate::ingest::{Candidate, Successor, Term, WriterParts, run_writer};
use crate::latch::Latch;
use crate::mqtt::{self, Link, Publisher, TlsFileError};
use crate::outbox::Outbox;
use crate::settings::MqttSettings;
use crate::standby::{Reason, Standby};

/// Stack of the thread. Without optimization the futures of ingest need more than the usual 2 MiB.
const STACK_BYTES: usize = 8 << 20;
/// Pause after a term that could not begin, or that was ended so that another server takes over.
const RETRY_AFTER: Duration = Duration::from_secs(5);
/// Pause before this server takes the session back where another client has taken it twice in so short a time: it is no server of
/// this database, and each would end the other's connection. The time is longer than the longest pause.
const TAKEN_OVER_PAUSE: Duration = Duration::from_secs(30);
const TAKEN_OVER_AGAIN: Duration = Duration::from_secs(60);
/// A link that is down for so long ends the term if another server can take over. That one's probe of the broker is newer: the
/// pause between two of them is half of this.
const WITHOUT_BROKER: Duration = Duration::from_secs(60);

/// The connection and the writer on a thread of their own: no query of the API delays a message, and a message
/// crosses no thread until it is committed.
pub(super) struct Ingest {
    /// Ends the connection, then the writer.
    stop: CancellationToken,
    /// Ends both at their next await.
    abort: CancellationToken,
    /// Set when the thread ends.
    done: Latch,
}

impl Ingest {
    pub(super) fn start(parts: &Parts, publisher: Publisher, ended: &Latch) -> anyhow::Result<Self> {
        let ingest = Self { stop: CancellationToken::new(), abort: CancellationToken::new(), done: Latch::default() };
        let (stop, abort, migrated) = (ingest.stop.clone(), ingest.abort.clone(), parts.migrated.clone());
        let terms = Terms::new(parts, publisher, stop.clone());
        let guards = (ended.set_on_drop(), ingest.done.set_on_drop());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let ingesting = async move {
            if stop.run_until_cancelled(migrated.wait()).await.is_some() {
                Box::pin(terms.run()).await;
            }
        };
        let thread = std::thread::Builder::new().name("ingest".to_owned()).stack_size(STACK_BYTES);
        thread.spawn(move || {
            let _guards = guards;
            // Dropped before the guards, and with it the tasks that are left: what they hold is free when the latches are set.
            let runtime = runtime;
            runtime.block_on(abort.run_until_cancelled(ingesting));
        })?;
        Ok(ingest)
    }

    pub(super) async fn stop(self, limit: Duration) {
        self.stop.cancel();
        if timeout(limit, self.done.wait()).await.is_err() {
            // The database is away. Messages that are not committed are not acknowledged, so none is lost.
            tracing::warn!("messages could not be stored in time; the broker keeps them");
            self.abort.cancel();
            self.done.wait().await;
        }
    }
}

/// The terms in which this server ingests. Between them another server does, and this one waits.
struct Terms {
    candidate: Candidate,
    mqtt: MqttSettings,
    publisher: Publisher,
    writer: WriterParts,
    standby: Standby,
    /// When another client last took over the session.
    taken_over_at: Option<Instant>,
    stop: CancellationToken,
}

/// How a term ended.
enum End {
    Stopped,
    /// Another server has begun to store.
    Lost,
    /// Another client has taken over the session: a server that ingests now, or a stranger. The database knows which.
    TakenOver,
    /// The broker does not let this server use the client id.
    Refused,
    /// This server does not reach the broker, and another one does.
    NoBroker,
}

impl Terms {
    fn new(parts: &Parts, publisher: Publisher, stop: CancellationToken) -> Self {
        let Parts { settings, base, hubs, .. } = parts;
        let (mqtt, standby) = (settings.mqtt.clone(), hubs.standby.clone());
        let (progress, metrics) = (base.ingest_progress.clone(), base.metrics.clone());
        let candidate = Candidate::new(settings.database.clone(), mqtt.clone(), standby.clone(), progress, metrics);
        Self { candidate, mqtt, publisher, writer: writer(parts), standby, taken_over_at: None, stop }
    }

    async fn run(mut self) {
        let stop = self.stop.clone();
        while let Some(term) = stop.run_until_cancelled(self.candidate.wait()).await {
            let client_id = term.session.client_id.clone();
            let end = self.serve(term).await;
            if let Ok(End::Stopped) = end {
                return;
            }
            // Another server may ingest from now on, so that streams of this one would miss events.
            self.standby.does_not_ingest(Reason::Asking);
            self.count_left();
            let pause = self.pause_after(end, &client_id);
            let _ = stop.run_until_cancelled(sleep(pause)).await;
        }
    }

    /// The pause until this server asks for its next term. Logs why this one has ended.
    fn pause_after(&mut self, end: Result<End, TlsFileError>, client_id: &str) -> Duration {
        match end {
            Ok(End::Stopped) => {}
            Ok(End::Lost) => tracing::warn!("another server has begun to ingest; this one has closed its connection"),
            Ok(End::TakenOver) => {
                tracing::warn!(
                    client_id,
                    "another client has taken over the session; this server stores nothing from it"
                );
                let before = self.taken_over_at.replace(Instant::now());
                if before.is_some_and(|at| at.elapsed() < TAKEN_OVER_AGAIN) {
                    return Backoff::new(TAKEN_OVER_PAUSE, TAKEN_OVER_PAUSE).next_delay();
                }
            }
            Ok(End::Refused) => self.candidate.give_up_session(client_id),
            Ok(End::NoBroker) => {
                tracing::warn!("no connection to the MQTT broker; another server takes over");
                return RETRY_AFTER;
            }
            Err(error) => {
                tracing::error!(%error, "can't read the TLS files again; trying again");
                return RETRY_AFTER;
            }
        }
        Duration::ZERO
    }

    /// Counts the messages of a term that were neither stored nor rejected when it was lost.
    fn count_left(&self) {
        let m = &self.writer.metrics;
        let done = m.mqtt_stored.get() + m.mqtt_duplicate.get() + m.mqtt_rejected_total.get() + m.mqtt_left.get();
        m.mqtt_left.inc_by(m.mqtt_received.get().saturating_sub(done));
    }

    /// Runs the link and the writer. What is not stored when the term is lost is not acknowledged either, so the broker
    /// delivers it again.
    async fn serve(&self, term: Term) -> Result<End, TlsFileError> {
        let WriterParts { clock, metrics, traces, .. } = &self.writer;
        let (mqtt, session) = (self.mqtt.clone(), term.session.clone());
        let (link, handles) =
            Link::new(mqtt, session, &self.publisher, clock.clone(), metrics.clone(), traces.clone())?;
        let (lost, refused, taken_over) = (term.lost.clone(), handles.refused.clone(), handles.taken_over.clone());
        let (group, is_shared) = (term.group.clone(), self.mqtt.shared_group.is_some());
        let (successor, connected) = (term.successor.clone(), handles.connected.clone());
        let (ready, drained, stop) = (Latch::default(), Latch::default(), self.stop.clone());
        let mut tasks = JoinSet::new();
        let (writer, is_ready, has_drained) = (self.writer.clone(), ready.clone(), drained.set_on_drop());
        tasks.spawn(async move {
            let _has_drained = has_drained;
            run_writer(writer, term, handles, is_ready).await;
        });
        // No message is taken from the broker before the writer can store it.
        tasks.spawn(async move {
            // Moved in: it is down when this future is dropped.
            let link = link;
            if stop.run_until_cancelled(ready.wait()).await.is_some() {
                link.run(stop.clone(), drained, async || group.leave().await).await;
            }
        });
        let end = tokio::select! {
            () = all_ended(&mut tasks) => End::Stopped,
            () = lost.wait() => End::Lost,
            () = taken_over.wait(), if !is_shared => End::TakenOver,
            () = refused.wait() => End::Refused,
            () = without_broker(connected, &self.mqtt, &successor), if !is_shared => End::NoBroker,
        };
        tasks.shutdown().await;
        Ok(end)
    }
}

/// Waits for all tasks. Panics where one of them has.
async fn all_ended(tasks: &mut JoinSet<()>) {
    while let Some(ended) = tasks.join_next().await {
        if let Err(error) = ended {
            resume_unwind(error.into_panic());
        }
    }
}

/// Returns when the link has been down for long, this server does not reach the broker, and another one does.
async fn without_broker(mut connected: watch::Receiver<bool>, mqtt: &MqttSettings, successor: &Successor) {
    while connected.wait_for(|is_up| !is_up).await.is_ok() {
        match timeout(WITHOUT_BROKER, connected.wait_for(|is_up| *is_up)).await.map(|up| up.is_ok()) {
            Ok(true) => {}
            Ok(false) => break,
            // The link is down also while the database takes nothing, or the broker refuses the subscription.
            Err(_) if Box::pin(mqtt::probe(mqtt)).await.is_err() && successor.exists().await => return,
            Err(_) => {}
        }
    }
    // The link has ended.
    std::future::pending().await
}

fn writer(parts: &Parts) -> WriterParts {
    let Parts { settings, base, hubs, .. } = parts;
    WriterParts {
        presence_timeout: settings.presence_timeout,
        device_limit: settings.device_limit,
        daily_storage: settings.quotas.device_daily_bytes,
        registry_changes: hubs.registry_changes.clone(),
        readings: hubs.readings.clone(),
        states: hubs.states.clone(),
        commands: hubs.commands.clone(),
        configs: hubs.configs.clone(),
        expectations: hubs.expectations.clone(),
        returned_devices: hubs.returned_devices.clone(),
        partitions: hubs.partitions.clone(),
        outboxes: [(CommandOutbox::NAME, hubs.command_wake.clone()), (ConfigOutbox::NAME, hubs.config_wake.clone())],
        progress: base.ingest_progress.clone(),
        metrics: base.metrics.clone(),
        traces: base.traces.clone(),
        clock: base.clock.clone(),
    }
}
