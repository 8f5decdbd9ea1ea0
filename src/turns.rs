//! How many operations of one user run at once, and how many of their statements. A few always run. Further ones run in
//! places that all users share, and there users take turns. So one user with many operations does not occupy the database
//! connections and the processor, and still uses most of them while nobody else does.
//!
//! Operations are limited by their cost, too: a user whose operations ran for long of late has one operation and one
//! statement at once while others are active.

mod running_time;

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex};
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use tokio::sync::{Mutex as AsyncMutex, OwnedSemaphorePermit, Semaphore};

use self::running_time::RunningTimes;
use crate::db::spawn_and_join;
use crate::ids::UserId;
use crate::metrics::Metrics;

/// How long an operation waits for its turn.
const MAX_WAIT: Duration = Duration::from_secs(5);
/// When a refused operation may come again, in seconds.
pub const RETRY_AFTER_SECONDS: u32 = 1;
/// The `reason` of `smarthome_quota_exceeded`.
pub const REASON: &str = "OPERATIONS_PER_USER";

/// Numbers of operations: of queries and mutations, of the statements that these read with, or of subscriptions that read
/// from the database.
#[derive(Debug, Clone, Copy)]
pub struct TurnLimits {
    /// Of one user, running at once whatever others do.
    pub own: usize,
    /// Of all users, running at once beside these.
    pub shared: usize,
    /// Of one user, running or waiting.
    pub open: usize,
}

impl TurnLimits {
    /// With half of the database connections shared, a user who has all shared places leaves connections to others.
    pub fn of_operations(pool_size: u32) -> Self {
        Self { own: 2, shared: pool_size as usize / 2, open: 500 }
    }

    /// One operation may have many statements at once. More shared places than processors make nothing faster where the
    /// database is on the same machine, and others wait longer.
    pub fn of_statements(pool_size: u32) -> Self {
        let n_processors = available_parallelism().map_or(1, NonZeroUsize::get);
        Self { own: 1, shared: n_processors.min(pool_size as usize / 2), open: usize::MAX }
    }

    /// Subscriptions are limited in number elsewhere, and each reads one page at a time.
    pub fn of_subscriptions() -> Self {
        Self { own: 1, shared: 2, open: usize::MAX }
    }
}

/// Too many operations of the user wait, or the operation waited too long.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("too many operations at once: try again in {RETRY_AFTER_SECONDS} s")]
pub struct TooManyOperations;

/// The operations of all users. Cheap to clone; all clones count together. The default has no limits.
#[derive(Clone, Default)]
pub struct Turns(Option<Arc<Shared>>);

struct Shared {
    limits: TurnLimits,
    metrics: Metrics,
    /// The places of all users.
    places: Arc<Semaphore>,
    /// Users without operations take no memory.
    users: Mutex<HashMap<UserId, User>>,
    running_times: RunningTimes,
}

struct User {
    own: Arc<Own>,
    /// Operations that run or wait.
    n_operations: usize,
}

/// What only the operations of one user take.
struct Own {
    places: Arc<Semaphore>,
    /// Held by the operation that is next.
    next: AsyncMutex<()>,
}

/// The turns of one user.
#[derive(Clone)]
pub struct UserTurns {
    turns: Turns,
    user: UserId,
}

/// The right to run one operation, until it is dropped.
pub struct Turn {
    _place: OwnedSemaphorePermit,
    began: Instant,
    counted: Counted,
}

/// An operation that runs or waits.
struct Counted {
    shared: Arc<Shared>,
    user: UserId,
    own: Arc<Own>,
}

impl Turns {
    pub fn new(limits: TurnLimits, metrics: Metrics) -> Self {
        let (users, running_times) = (Mutex::default(), RunningTimes::default());
        Self(Some(Arc::new(Shared { limits, metrics, places: places(limits.shared), users, running_times })))
    }

    /// Waits for the turn of an operation. Operations of nobody have no limit here.
    pub async fn wait(&self, user: Option<UserId>) -> Result<Option<Turn>, TooManyOperations> {
        let (Some(shared), Some(user)) = (&self.0, user) else { return Ok(None) };
        let refused = || {
            shared.metrics.count_quota_exceeded(REASON);
            TooManyOperations
        };
        let counted = shared.clone().count(user).ok_or_else(refused)?;
        let turn = tokio::time::timeout(MAX_WAIT, counted.turn()).await;
        turn.map(Some).map_err(|_| refused())
    }

    pub fn of(&self, user: UserId) -> UserTurns {
        UserTurns { turns: self.clone(), user }
    }
}

impl UserTurns {
    /// Runs work when it is the user's turn, however long that takes. On a task of its own: nobody polls an operation or a
    /// subscription while its client reads nothing, and the turn would not end.
    pub async fn run<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> T {
        let Self { turns, user } = self.clone();
        spawn_and_join(async move {
            let _turn = match turns.0.and_then(|shared| shared.count(user)) {
                Some(counted) => Some(counted.turn().await),
                None => None,
            };
            work.await
        })
        .await
    }
}

impl Shared {
    fn count(self: Arc<Self>, user: UserId) -> Option<Counted> {
        let mut users = self.users.lock().expect("operations lock");
        let of_user = users.entry(user).or_insert_with(|| User {
            own: Arc::new(Own { places: places(self.limits.own), next: AsyncMutex::default() }),
            n_operations: 0,
        });
        if of_user.n_operations >= self.limits.open {
            return None;
        }
        of_user.n_operations += 1;
        let own = of_user.own.clone();
        drop(users);
        Some(Counted { shared: self, user, own })
    }
}

impl Counted {
    async fn turn(self) -> Turn {
        let place = self.place().await;
        Turn { _place: place, began: Instant::now(), counted: self }
    }

    async fn place(&self) -> OwnedSemaphorePermit {
        let Self { shared, user, own } = self;
        // At most one operation of each user waits for a shared place. Tokio's semaphore is fair, so users take turns.
        let _next = own.next.lock().await;
        let place = if shared.running_times.may_share(*user, Instant::now()) {
            tokio::select! {
                biased;
                place = own.places.clone().acquire_owned() => place,
                place = shared.places.clone().acquire_owned() => place,
            }
        } else {
            let all_own = u32::try_from(shared.limits.own).expect("a small number");
            own.places.clone().acquire_many_owned(all_own).await
        };
        place.expect("never closed")
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let now = Instant::now();
        self.counted.shared.running_times.add(self.counted.user, now - self.began, now);
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut users = self.shared.users.lock().expect("operations lock");
        if let Some(of_user) = users.get_mut(&self.user) {
            of_user.n_operations -= 1;
            if of_user.n_operations == 0 {
                users.remove(&self.user);
            }
        }
    }
}

fn places(n: usize) -> Arc<Semaphore> {
    Arc::new(Semaphore::new(n.min(Semaphore::MAX_PERMITS)))
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn users_have_own_places_and_take_turns_at_the_shared_ones() {
        let turns = Turns::new(TurnLimits { own: 1, shared: 1, open: 4 }, Metrics::new());
        let [one, other] = [1, 2].map(|id| Some(UserId::from_database(id)));
        let own = turns.wait(one).await.unwrap();
        let shared = turns.wait(one).await.unwrap();
        let [mut next, mut last] = [(); 2].map(|()| Box::pin(turns.wait(one)));
        assert!(next.as_mut().now_or_never().is_none() && last.as_mut().now_or_never().is_none());
        assert!(turns.wait(one).await.is_err());

        let others_own = turns.wait(other).await.unwrap();
        let mut others = Box::pin(turns.wait(other));
        assert!(others_own.is_some() && others.as_mut().now_or_never().is_none());
        drop(shared);
        let next = next.as_mut().now_or_never().unwrap().unwrap();
        assert!(last.as_mut().now_or_never().is_none());
        drop(next);
        assert!(last.as_mut().now_or_never().is_none(), "it is the turn of the other user");
        let others = others.as_mut().now_or_never().unwrap().unwrap();
        drop(own);
        let last = last.as_mut().now_or_never().unwrap().unwrap();

        assert!(turns.wait(None).await.unwrap().is_none());
        drop((last, others, others_own));
        assert!(turns.0.as_ref().unwrap().users.lock().unwrap().is_empty());
        assert!(Turns::default().wait(one).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn a_user_whose_operations_ran_for_long_gets_no_shared_place_while_others_are_active() {
        let turns = Turns::new(TurnLimits { own: 1, shared: 1, open: 4 }, Metrics::new());
        let [busy, other] = [1, 2].map(|id| Some(UserId::from_database(id)));
        let times = &turns.0.as_ref().unwrap().running_times;
        times.add(UserId::from_database(1), Duration::from_secs(5), Instant::now());
        let alone = [turns.wait(busy).await.unwrap(), turns.wait(busy).await.unwrap()];
        drop((alone, turns.wait(other).await.unwrap()));
        let own = turns.wait(busy).await.unwrap();
        let mut next = Box::pin(turns.wait(busy));
        assert!(own.is_some() && next.as_mut().now_or_never().is_none());
        let others = [turns.wait(other).await.unwrap(), turns.wait(other).await.unwrap()];
        assert!(others.iter().all(Option::is_some));
        drop(own);
        assert!(next.await.unwrap().is_some());
    }

    #[tokio::test]
    async fn work_that_nobody_polls_leaves_its_place() {
        let turns = Turns::new(TurnLimits { own: 1, shared: 0, open: usize::MAX }, Metrics::new());
        let turns = turns.of(UserId::from_database(1));
        let (finish, finished) = tokio::sync::oneshot::channel::<()>();
        let mut first = Box::pin(turns.run(finished));
        let mut second = Box::pin(turns.run(async {}));
        assert!(futures_util::poll!(&mut first).is_pending() && futures_util::poll!(&mut second).is_pending());
        tokio::task::yield_now().await;
        assert!(futures_util::poll!(&mut second).is_pending());
        finish.send(()).unwrap();
        second.await;
    }

    #[tokio::test]
    async fn an_operation_that_is_given_up_leaves_the_line() {
        let turns = Turns::new(TurnLimits { own: 1, shared: 0, open: 4 }, Metrics::new());
        let user = Some(UserId::from_database(1));
        let running = turns.wait(user).await.unwrap();
        let [mut given_up, mut last] = [(); 2].map(|()| Box::pin(turns.wait(user)));
        assert!(given_up.as_mut().now_or_never().is_none() && last.as_mut().now_or_never().is_none());
        drop((given_up, running));
        drop(last.await.unwrap());
        assert!(turns.0.as_ref().unwrap().users.lock().unwrap().is_empty());
    }
}
