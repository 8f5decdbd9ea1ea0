//! The thread of the MQTT connection and the writer, and the terms in which they run.

use std::time::Duration;

use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::Parts;
use crate::backoff::Backoff;
use crate::commands::CommandOutbox;
use crate::device_config::ConfigOutbox;
use crate::ingest::{Candidate, Term, WriterParts, run_writer};
use crate::latch::Latch;
use crate::mqtt::{Link, Publisher, TlsFileError};
use crate::outbox::Outbox;
use crate::settings::MqttSettings;

/// Stack of the thread. Without optimization the futures of ingest need more than the usual 2 MiB.
const STACK_BYTES: usize = 8 << 20;
/// Pause after a term that could not begin.
const RETRY_AFTER: Duration = Duration::from_secs(5);
/// Pause before this server takes the session back from a client that is no server of this database. Each would end the other's
/// connection.
const TAKEN_OVER_PAUSE: Duration = Duration::from_secs(30);

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
}

impl Terms {
    fn new(parts: &Parts, publisher: Publisher, stop: CancellationToken) -> Self {
        let Parts { settings, base, .. } = parts;
        let (database, mqtt) = (settings.database.clone(), settings.mqtt.clone());
        let candidate = Candidate::new(database, mqtt.clone(), base.ingest_progress.clone(), base.metrics.clone());
        Self { candidate, mqtt, publisher, writer: writer(parts), stop }
    }

    async fn run(mut self) {
        let stop = self.stop.clone();
        // The term in which a stranger may have taken over the session.
        let mut taken_over = None;
        while let Some(term) = stop.run_until_cancelled(self.candidate.wait()).await {
            let (client_id, number) = (term.session.client_id.clone(), term.number);
            // No other server has begun a term in between.
            if taken_over.take() == Some((client_id.clone(), number - 1)) {
                let pause = Backoff::new(TAKEN_OVER_PAUSE, TAKEN_OVER_PAUSE).next_delay();
                if stop.run_until_cancelled(sleep(pause)).await.is_none() {
                    return;
                }
            }
            match self.serve(term).await {
                Ok(End::Stopped) => return,
                Ok(End::Lost) => {
                    self.count_left();
                    tracing::warn!("another server has begun to ingest; this one has closed its connection");
                }
                Ok(End::TakenOver) => {
                    self.count_left();
                    tracing::warn!(
                        client_id,
                        "another client has taken over the session; this server stores nothing from it"
                    );
                    taken_over = Some((client_id, number));
                }
                Ok(End::Refused) => self.candidate.give_up_session(&client_id),
                Err(error) => {
                    tracing::error!(%error, "can't read the TLS files again; trying again");
                    let _ = stop.run_until_cancelled(sleep(RETRY_AFTER)).await;
                }
            }
        }
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
        let WriterParts { clock, metrics, .. } = &self.writer;
        let (mqtt, session) = (self.mqtt.clone(), term.session.clone());
        let (link, handles) = Link::new(mqtt, session, &self.publisher, clock.clone(), metrics.clone())?;
        let (lost, refused, taken_over) = (term.lost.clone(), handles.refused.clone(), handles.taken_over.clone());
        let (group, is_shared) = (term.group.clone(), self.mqtt.shared_group.is_some());
        let (ready, drained, stop) = (Latch::default(), Latch::default(), self.stop.clone());
        // In boxes: these are the largest futures of the server, and each caller would hold a copy on the stack.
        let writing = Box::pin(async {
            let _drained = drained.set_on_drop();
            run_writer(self.writer.clone(), term, handles, ready.clone()).await;
        });
        // No message is taken from the broker before the writer can store it.
        let linking = Box::pin(async {
            let link = link;
            if stop.run_until_cancelled(ready.wait()).await.is_some() {
                link.run(stop.clone(), drained.clone(), async || group.leave().await).await;
            }
        });
        Ok(tokio::select! {
            _ = async { futures_util::join!(linking, writing) } => End::Stopped,
            () = lost.wait() => End::Lost,
            () = taken_over.wait(), if !is_shared => End::TakenOver,
            () = refused.wait() => End::Refused,
        })
    }
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
        clock: base.clock.clone(),
    }
}
