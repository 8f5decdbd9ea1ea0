//! How current this server's revocations are. Most tokens are judged from the cache alone, so a cache that was
//! not synchronised recently must judge none.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout};

/// Greatest age of the last poll at which the cache may judge tokens. Longer than a restart of PostgreSQL or a
/// reconnect takes: neither should cause errors.
const MAX_STALENESS: Duration = Duration::from_secs(10);
/// How long a request waits for the next poll before it fails with UNAVAILABLE.
const WAIT_FOR_SYNC: Duration = Duration::from_secs(2);

/// The moment of the last poll. Cheap to clone; all clones share one state.
#[derive(Clone)]
pub(super) struct Freshness(Arc<watch::Sender<Option<Instant>>>);

impl Default for Freshness {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(None)))
    }
}

impl Freshness {
    /// Revocations committed before that moment are known.
    pub(super) fn mark_synced(&self, at: Instant) {
        self.0.send_replace(Some(at));
    }

    pub(super) fn is_fresh(&self) -> bool {
        is_fresh(*self.0.borrow())
    }

    /// Whether the cache is fresh now or within [`WAIT_FOR_SYNC`].
    pub(super) async fn wait_until_fresh(&self) -> bool {
        if self.is_fresh() {
            return true;
        }
        let mut synced = self.0.subscribe();
        let fresh = synced.wait_for(|at| is_fresh(*at));
        timeout(WAIT_FOR_SYNC, fresh).await.is_ok_and(|fresh| fresh.is_ok())
    }
}

fn is_fresh(synced: Option<Instant>) -> bool {
    synced.is_some_and(|at| at.elapsed() < MAX_STALENESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_cache_is_fresh_after_a_poll_and_stale_without_one() {
        let freshness = Freshness::default();
        assert!(!freshness.is_fresh());
        let (is_fresh, ()) =
            tokio::join!(freshness.wait_until_fresh(), async { freshness.mark_synced(Instant::now()) });
        assert!(is_fresh && freshness.is_fresh() && freshness.wait_until_fresh().await);
        freshness.mark_synced(Instant::now() - MAX_STALENESS + Duration::from_secs(1));
        assert!(freshness.is_fresh());
        freshness.mark_synced(Instant::now() - MAX_STALENESS);
        assert!(!freshness.is_fresh());
    }
}
