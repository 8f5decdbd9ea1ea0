//! Up to when this server knows what has ended elsewhere. Most tokens are judged by memory alone, and a
//! memory that nothing reaches any more, or nothing has reached yet, must judge none.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout};

/// What ended longer ago than this must be known, or no token is judged by memory. More than a restart of
/// PostgreSQL takes, or a connection that is made anew: neither is to cost anybody an error.
const MAX_STALENESS: Duration = Duration::from_secs(10);
/// How long a token waits to be judged before its bearer is told UNAVAILABLE.
const WAIT_FOR_SYNC: Duration = Duration::from_secs(2);

/// A moment that moves on with every look at the table. Cheap to clone; all clones are one.
#[derive(Clone)]
pub(super) struct Freshness(Arc<watch::Sender<Option<Instant>>>);

impl Default for Freshness {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(None)))
    }
}

impl Freshness {
    /// What was committed before that moment is known.
    pub(super) fn mark_synced(&self, at: Instant) {
        self.0.send_replace(Some(at));
    }

    /// Whether memory may judge now.
    pub(super) fn is_fresh(&self) -> bool {
        is_fresh(*self.0.borrow())
    }

    /// Whether it may, now or in a moment.
    pub(super) async fn wait_until_fresh(&self) -> bool {
        if self.is_fresh() {
            return true;
        }
        let mut reached = self.0.subscribe();
        let clear = reached.wait_for(|at| is_fresh(*at));
        timeout(WAIT_FOR_SYNC, clear).await.is_ok_and(|clear| clear.is_ok())
    }
}

fn is_fresh(reached: Option<Instant>) -> bool {
    reached.is_some_and(|at| at.elapsed() < MAX_STALENESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_clears_with_a_look_and_clouds_over_without_one() {
        let freshness = Freshness::default();
        assert!(!freshness.is_fresh());
        let (wait_until_fresh, ()) =
            tokio::join!(freshness.wait_until_fresh(), async { freshness.mark_synced(Instant::now()) });
        assert!(wait_until_fresh && freshness.is_fresh() && freshness.wait_until_fresh().await);
        freshness.mark_synced(Instant::now() - MAX_STALENESS + Duration::from_secs(1));
        assert!(freshness.is_fresh());
        freshness.mark_synced(Instant::now() - MAX_STALENESS);
        assert!(!freshness.is_fresh());
    }
}
