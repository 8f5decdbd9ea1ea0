//! Up to when this server knows what has ended elsewhere. Most tokens are judged by memory alone, and a
//! memory that nothing reaches any more, or nothing has reached yet, must judge none.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout};

/// What ended longer ago than this must be known, or no token is judged by memory. More than a restart of
/// PostgreSQL takes, or a connection that is made anew: neither is to cost anybody an error.
const MAX_BLIND: Duration = Duration::from_secs(10);
/// How long a token waits to be judged before its bearer is told UNAVAILABLE.
const PATIENCE: Duration = Duration::from_secs(2);

/// A moment that moves on with every look at the table. Cheap to clone; all clones are one.
#[derive(Clone)]
pub(super) struct Sight(Arc<watch::Sender<Option<Instant>>>);

impl Default for Sight {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(None)))
    }
}

impl Sight {
    /// What was committed before that moment is known.
    pub(super) fn reach(&self, at: Instant) {
        self.0.send_replace(Some(at));
    }

    /// Whether memory may judge now.
    pub(super) fn is_clear(&self) -> bool {
        is_clear(*self.0.borrow())
    }

    /// Whether it may, now or in a moment.
    pub(super) async fn clears(&self) -> bool {
        if self.is_clear() {
            return true;
        }
        let mut reached = self.0.subscribe();
        let clear = reached.wait_for(|at| is_clear(*at));
        timeout(PATIENCE, clear).await.is_ok_and(|clear| clear.is_ok())
    }
}

fn is_clear(reached: Option<Instant>) -> bool {
    reached.is_some_and(|at| at.elapsed() < MAX_BLIND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_clears_with_a_look_and_clouds_over_without_one() {
        let sight = Sight::default();
        assert!(!sight.is_clear());
        let (clears, ()) = tokio::join!(sight.clears(), async { sight.reach(Instant::now()) });
        assert!(clears && sight.is_clear() && sight.clears().await);
        sight.reach(Instant::now() - MAX_BLIND + Duration::from_secs(1));
        assert!(sight.is_clear());
        sight.reach(Instant::now() - MAX_BLIND);
        assert!(!sight.is_clear());
    }
}
