//! The dispatchers of what goes to devices: one a feature, each with a connection of its own.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock::Clock;
use crate::downlink::Downlink;
use crate::metrics::Metrics;
use crate::outbox::{self, Dispatcher, Outbox, Wake};
use crate::settings::DatabaseSettings;

/// Longest wait for what is under way at the stop; what is not confirmed by then goes again.
const STOP_WITHIN: Duration = Duration::from_secs(3);

/// The running dispatchers.
pub(super) struct Outboxes {
    stop: CancellationToken,
    give_up: CancellationToken,
    tasks: TaskTracker,
    parts: Parts,
}

/// What every dispatcher is made of.
pub(super) struct Parts {
    pub(super) downlink: Arc<dyn Downlink>,
    pub(super) database: DatabaseSettings,
    pub(super) client_id: String,
    pub(super) clock: Clock,
    pub(super) metrics: Metrics,
    /// Cancelled once the schema is there.
    pub(super) migrated: CancellationToken,
    /// Cancelled by a dispatcher that ends early: the server ends with it.
    pub(super) ended: CancellationToken,
}

impl Outboxes {
    pub(super) fn new(parts: Parts) -> Self {
        let (stop, give_up) = (CancellationToken::new(), CancellationToken::new());
        Self { stop, give_up, tasks: TaskTracker::new(), parts }
    }

    /// Starts the dispatcher of one outbox.
    pub(super) fn start(&self, outbox: impl Outbox, wake: Wake) {
        let Parts { downlink, database, client_id, clock, metrics, migrated, ended } = &self.parts;
        let dependencies = outbox::Dependencies {
            downlink: downlink.clone(),
            wake,
            database: database.clone(),
            client_id: client_id.clone(),
            clock: clock.clone(),
            metrics: metrics.clone(),
        };
        let dispatcher = Dispatcher::new(outbox, dependencies);
        let (stop, migrated, guard) = (self.stop.clone(), migrated.clone(), ended.clone().drop_guard());
        let running = async move {
            let _guard = guard;
            if stop.run_until_cancelled(migrated.cancelled()).await.is_some() {
                dispatcher.run(stop).await;
            }
        };
        self.tasks.spawn(self.give_up.clone().run_until_cancelled_owned(running));
    }

    /// Lets what is under way come to its end.
    pub(super) async fn stop(self) {
        self.stop.cancel();
        self.tasks.close();
        if timeout(STOP_WITHIN, self.tasks.wait()).await.is_err() {
            tracing::warn!("what was under way to devices is not confirmed; it goes again");
            self.give_up.cancel();
        }
    }
}
