//! The thread of the link and the writer.

use std::time::Duration;

use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::ingest::Writer;
use crate::mqtt::Link;

/// The link and the writer on a thread of their own: no query of the API stands in a message's way,
/// and a message crosses no thread until it is committed.
pub(super) struct Ingest {
    /// Ends the link, then the writer.
    stop: CancellationToken,
    /// Ends both, whatever they are doing.
    give_up: CancellationToken,
    done: CancellationToken,
}

impl Ingest {
    pub(super) fn start(
        link: Link,
        writer: Writer,
        [migrated, ready]: [CancellationToken; 2],
        ended: &CancellationToken,
    ) -> anyhow::Result<Self> {
        let ingest =
            Self { stop: CancellationToken::new(), give_up: CancellationToken::new(), done: CancellationToken::new() };
        let (stop, give_up) = (ingest.stop.clone(), ingest.give_up.clone());
        let guards = (ended.clone().drop_guard(), ingest.done.clone().drop_guard());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let both = async move {
            let drained = CancellationToken::new();
            let writing = async {
                let _drained = drained.clone().drop_guard();
                if stop.run_until_cancelled(migrated.cancelled()).await.is_some() {
                    writer.run().await;
                }
            };
            // Nothing is taken from the broker before it could be stored.
            let linking = async {
                if stop.run_until_cancelled(ready.cancelled()).await.is_some() {
                    link.run(stop.clone(), drained.clone()).await;
                }
            };
            futures_util::join!(linking, writing);
        };
        std::thread::Builder::new().name("ingest".to_owned()).spawn(move || {
            let _guards = guards;
            runtime.block_on(give_up.run_until_cancelled(both));
        })?;
        Ok(ingest)
    }

    pub(super) async fn stop(self, within: Duration) {
        self.stop.cancel();
        if timeout(within, self.done.cancelled()).await.is_err() {
            // The database is away: what is not committed is not acknowledged, so nothing is lost.
            tracing::warn!("messages could not be stored in time; the broker keeps them");
            self.give_up.cancel();
            self.done.cancelled().await;
        }
    }
}
