//! The thread of the MQTT connection and the writer.

use std::time::Duration;

use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::Parts;
use crate::commands::CommandOutbox;
use crate::device_config::ConfigOutbox;
use crate::ingest::{Writer, WriterParts};
use crate::latch::Latch;
use crate::mqtt::{Link, LinkHandles};
use crate::outbox::Outbox;

/// Stack of the thread. Without optimization the futures of ingest need more than the usual 2 MiB.
const STACK_BYTES: usize = 8 << 20;

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
    pub(super) fn start(parts: &Parts, link: Link, handles: LinkHandles, ended: &Latch) -> anyhow::Result<Self> {
        let ingest = Self { stop: CancellationToken::new(), abort: CancellationToken::new(), done: Latch::default() };
        let ready = Latch::default();
        let writer = writer(parts, handles, ready.clone());
        let (stop, abort, migrated) = (ingest.stop.clone(), ingest.abort.clone(), parts.migrated.clone());
        let guards = (ended.set_on_drop(), ingest.done.set_on_drop());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let both = async move {
            let drained = Latch::default();
            let writing = async {
                let _drained = drained.set_on_drop();
                if stop.run_until_cancelled(migrated.wait()).await.is_some() {
                    writer.run().await;
                }
            };
            // No message is taken from the broker before the writer can store it.
            let linking = async {
                if stop.run_until_cancelled(ready.wait()).await.is_some() {
                    link.run(stop.clone(), drained.clone()).await;
                }
            };
            futures_util::join!(linking, writing);
        };
        let thread = std::thread::Builder::new().name("ingest".to_owned()).stack_size(STACK_BYTES);
        thread.spawn(move || {
            let _guards = guards;
            runtime.block_on(abort.run_until_cancelled(both));
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

fn writer(parts: &Parts, link: LinkHandles, ready: Latch) -> Writer {
    let Parts { settings, base, hubs, .. } = parts;
    Writer::new(WriterParts {
        database: settings.database.clone(),
        mqtt: settings.mqtt.clone(),
        presence_timeout: settings.presence_timeout,
        device_limit: settings.device_limit,
        daily_storage: settings.quotas.device_daily_bytes,
        link,
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
        ready,
    })
}
