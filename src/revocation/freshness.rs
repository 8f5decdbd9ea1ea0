//! How current this server's revocations are. Most tokens are judged from the cache alone, so a cache that was
//! not synchronised recently must judge none.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
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
pub(super) struct Freshness(Arc<Shared>);

struct Shared {
    began: Instant,
    /// Up to when the cache is fresh, in microseconds since `began`; 0 before the first poll. Every event that is sent asks
    /// for it, so that takes no lock.
    fresh_until: AtomicU64,
    /// Wakes those that wait for the next poll.
    synced: watch::Sender<()>,
}

impl Default for Freshness {
    fn default() -> Self {
        let (fresh_until, synced) = (AtomicU64::new(0), watch::Sender::new(()));
        Self(Arc::new(Shared { began: Instant::now(), fresh_until, synced }))
    }
}

impl Freshness {
    /// Revocations committed before that moment are known.
    pub(super) fn mark_synced(&self, at: Instant) {
        self.0.fresh_until.store(self.0.micros(at + MAX_STALENESS), Ordering::Release);
        self.0.synced.send_replace(());
    }

    pub(super) fn is_fresh(&self) -> bool {
        self.0.micros(Instant::now()) < self.0.fresh_until.load(Ordering::Acquire)
    }

    /// Whether the cache is fresh now or within [`WAIT_FOR_SYNC`].
    pub(super) async fn wait_until_fresh(&self) -> bool {
        if self.is_fresh() {
            return true;
        }
        let mut synced = self.0.synced.subscribe();
        let fresh = synced.wait_for(|()| self.is_fresh());
        timeout(WAIT_FOR_SYNC, fresh).await.is_ok_and(|fresh| fresh.is_ok())
    }
}

impl Shared {
    /// The moment in microseconds since `began`; 0 for an earlier one.
    fn micros(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.began).as_micros()).unwrap_or(u64::MAX)
    }
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
