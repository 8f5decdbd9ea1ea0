//! Turns at hashing passwords: a bounded number at once, a bounded number waiting. Sign-ins on networks that the account
//! has signed in from before have a lane of their own, so that guesses from many addresses do not keep them out.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::Error;

/// Hashes computed at once: at most 2 x 19 MiB and two cores.
pub(super) const MAX_CONCURRENT: usize = 2;
/// Requests of a lane that may wait for their turn (about a second); others receive `RATE_LIMITED`.
const MAX_WAITING: usize = 64;

/// How a request waits for its turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lane {
    /// The account has signed in from this network before, or the request has a session.
    Known,
    /// All others.
    Unknown,
}

/// Cheap to clone; all clones share the turns.
#[derive(Clone)]
pub(super) struct Turns {
    running: Arc<Semaphore>,
    known: Arc<Semaphore>,
    unknown: Arc<Semaphore>,
    /// At most this many requests of the unknown lane run or are next, so a known one waits for few of them.
    unknown_next: Arc<Semaphore>,
}

/// The right to compute one hash, until it is dropped.
pub(super) struct Turn {
    _waiting: OwnedSemaphorePermit,
    _next: Option<OwnedSemaphorePermit>,
    _running: OwnedSemaphorePermit,
}

impl Default for Turns {
    fn default() -> Self {
        let semaphore = |n| Arc::new(Semaphore::new(n));
        Self {
            running: semaphore(MAX_CONCURRENT),
            known: semaphore(MAX_CONCURRENT + MAX_WAITING),
            unknown: semaphore(MAX_CONCURRENT + MAX_WAITING),
            unknown_next: semaphore(MAX_CONCURRENT),
        }
    }
}

impl Turns {
    /// Waits for a turn. Fails with `RATE_LIMITED` if too many requests of the lane wait already.
    pub(super) async fn wait(&self, lane: Lane) -> Result<Turn, Error> {
        let waiting = match lane {
            Lane::Known => &self.known,
            Lane::Unknown => &self.unknown,
        };
        let waiting = waiting.clone().try_acquire_owned();
        let waiting = waiting.map_err(|_| Error::TooSoon { retry_after_seconds: 1 })?;
        let next = match lane {
            Lane::Known => None,
            Lane::Unknown => Some(self.unknown_next.clone().acquire_owned().await.map_err(Error::internal)?),
        };
        // The semaphore is fair: a known request waits for those before it, and at most `MAX_CONCURRENT` are unknown.
        let running = self.running.clone().acquire_owned().await.map_err(Error::internal)?;
        Ok(Turn { _waiting: waiting, _next: next, _running: running })
    }

    /// Whether a further request has to wait.
    pub(super) fn is_busy(&self) -> bool {
        self.running.available_permits() == 0
    }

    /// Requests that wait or run.
    pub(super) fn n_in_progress(&self) -> usize {
        2 * (MAX_CONCURRENT + MAX_WAITING) - self.known.available_permits() - self.unknown.available_permits()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn a_full_lane_is_rate_limited_and_leaves_the_other_one_free() {
        let turns = Turns::default();
        let mut running = vec![turns.wait(Lane::Unknown).await.unwrap(), turns.wait(Lane::Unknown).await.unwrap()];
        let mut waiting: Vec<_> = (0..MAX_WAITING).map(|_| Box::pin(turns.wait(Lane::Unknown))).collect();
        assert!(waiting.iter_mut().all(|turn| turn.as_mut().now_or_never().is_none()));
        assert!(matches!(turns.wait(Lane::Unknown).await, Err(Error::TooSoon { .. })));
        assert!(turns.is_busy() && turns.n_in_progress() == MAX_CONCURRENT + MAX_WAITING);
        // The known request comes after those that are next, before all that wait.
        let mut known = Box::pin(turns.wait(Lane::Known));
        assert!(known.as_mut().now_or_never().is_none());
        running.pop();
        assert!(known.as_mut().now_or_never().is_some_and(|turn| turn.is_ok()));
        drop((known, waiting));
        running.clear();
        assert!(!turns.is_busy() && turns.n_in_progress() == 0);
    }
}
