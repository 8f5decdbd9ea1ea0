//! The dispatchers of the outboxes: one for commands, one for configurations, each with its own connection.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::Parts;
use super::tasks::Tasks;
use crate::commands::CommandOutbox;
use crate::device_config::{ConfigOutbox, KeyRing};
use crate::downlink::Downlink;
use crate::outbox::{self, Dispatcher, Outbox, Wake};

/// Longest wait for pending publishes at the stop. Those that are not confirmed by then are sent again after the
/// next start.
const STOP_TIMEOUT: Duration = Duration::from_secs(3);

/// The running dispatchers.
pub(super) struct Outboxes {
    tasks: Tasks,
    /// Ends them without waiting for confirmations.
    abort: CancellationToken,
}

impl Outboxes {
    pub(super) fn start(parts: &Parts, downlink: Arc<dyn Downlink>, tasks: Tasks) -> Self {
        let (base, hubs) = (&parts.base, &parts.hubs);
        let outboxes = Self { tasks, abort: CancellationToken::new() };
        let (expectations, returned) = (hubs.expectations.clone(), hubs.returned_devices.clone());
        let commands = CommandOutbox::new(hubs.commands.clone(), expectations, returned, base.metrics.clone());
        outboxes.run("the dispatcher of commands", parts, commands, downlink.clone(), hubs.command_wake.clone());
        let key_ring = KeyRing::new(&parts.settings.encryption);
        let configs = ConfigOutbox::new(hubs.configs.clone(), key_ring, base.metrics.clone());
        outboxes.run("the dispatcher of configurations", parts, configs, downlink, hubs.config_wake.clone());
        outboxes
    }

    fn run(&self, name: &'static str, parts: &Parts, outbox: impl Outbox, downlink: Arc<dyn Downlink>, wake: Wake) {
        let dispatcher = Dispatcher::new(
            outbox,
            outbox::DispatcherDependencies {
                downlink,
                wake,
                database: parts.settings.database.clone(),
                clock: parts.base.clock.clone(),
                metrics: parts.base.metrics.clone(),
            },
        );
        let (stop, migrated, abort) = (self.tasks.stop.clone(), parts.migrated.clone(), self.abort.clone());
        self.tasks.critical(name, async move {
            let running = async {
                if stop.run_until_cancelled(migrated.wait()).await.is_some() {
                    dispatcher.run(stop).await;
                }
            };
            abort.run_until_cancelled(running).await;
        });
    }

    /// Waits for pending publishes.
    pub(super) async fn stop(self) {
        if !self.tasks.stop(STOP_TIMEOUT).await {
            tracing::warn!("some publishes are not confirmed; they are sent again after the next start");
            self.abort.cancel();
            self.tasks.tracker.wait().await;
        }
    }
}
