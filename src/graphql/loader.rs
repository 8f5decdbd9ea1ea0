//! Batching without a timer: all fields of one wave of resolving that need the same kind of thing
//! share one statement.
//!
//! The first to ask leads: it gives way as long as that brings more who ask, then loads for all. (The
//! library's own loader waits a millisecond at every level, or, with no delay, races the resolver on another thread and splits batches at random.) A leader that is dropped takes its
//! batch with it, and those who waited ask again: one request can't fail another.

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex};

use async_graphql::{Context, QueryPathNode, QueryPathSegment};
use prometheus_client::metrics::counter::Counter;
use tokio::sync::oneshot;

use super::error::{ResolverError, Result};
use super::limits::budget::Budget;
use crate::db::{MemoryBudget, spawn_and_join};

/// Loads many things of a kind at once.
pub(super) trait Load: Send + Sync + 'static {
    /// What one statement has in common: the viewer, and arguments if there are any.
    type Group: Clone + Eq + Hash + Send + Sync + 'static;
    /// What names one thing.
    type Key: Clone + Eq + Hash + Send + Sync + 'static;
    /// The thing, cheap to clone.
    type Value: Clone + Send + Sync + 'static;

    /// Those of the keys that there are, as far as they may be held.
    fn load(
        &self,
        held: &MemoryBudget,
        group: &Self::Group,
        keys: Vec<Self::Key>,
    ) -> impl Future<Output = std::result::Result<HashMap<Self::Key, Self::Value>, crate::error::Error>> + Send;
}

/// Turns without anybody new after which a batch goes: a long list may take two to come round.
const IDLE_POLLS_BEFORE_DISPATCH: usize = 2;
/// Askers after which a batch goes at once.
const MAX_WAITING: usize = 10_000;

type LoadResult<L> = Result<Arc<HashMap<<L as Load>::Key, <L as Load>::Value>>>;

type Group<L> = (u64, <L as Load>::Group);
type Open<L> = HashMap<Group<L>, Batch<L>>;

struct Batch<L: Load> {
    keys: HashSet<L::Key>,
    waiting: Vec<oneshot::Sender<LoadResult<L>>>,
}

/// One field of one request, for all items of the lists above it. Only they share a batch: two fields
/// that met by chance would split each other's waves, and everything below them.
#[derive(Clone, Copy)]
pub(super) struct BatchScope<'a> {
    name: u64,
    budget: &'a Budget,
    exhausted: &'a Counter,
}

impl<'a> BatchScope<'a> {
    /// The wave of a field, and what its request may still ask for.
    pub(super) fn of(ctx: &Context<'_>, budget: &'a Budget, exhausted: &'a Counter) -> Self {
        let mut hash = DefaultHasher::new();
        // Alive, and so unique, as long as the request is.
        std::ptr::from_ref(ctx.query_env).hash(&mut hash);
        let mut node = ctx.path_node.as_ref();
        while let Some(QueryPathNode { parent, segment }) = node {
            if let QueryPathSegment::Name(name) = segment {
                name.hash(&mut hash);
            }
            node = *parent;
        }
        Self { name: hash.finish(), budget, exhausted }
    }

    /// One for all.
    #[cfg(test)]
    fn of_test((budget, exhausted): &'a (Budget, Counter)) -> Self {
        Self { name: 0, budget, exhausted }
    }
}

/// A batching loader.
pub(super) struct Loader<L: Load> {
    load: Arc<L>,
    /// Batches whose leader has not gone yet.
    open: Mutex<Open<L>>,
}

/// Takes the batch out when the leader goes, and also when it is dropped before that.
struct Leader<'a, L: Load> {
    loader: &'a Loader<L>,
    group: &'a Group<L>,
}

impl<L: Load> Leader<'_, L> {
    fn take(&self) -> Option<Batch<L>> {
        self.loader.open.lock().expect("loader lock").remove(self.group)
    }
}

impl<L: Load> Leader<'_, L> {
    /// A turn is one poll of the whole request: tokio wakes who yields only after it. (A future that woke
    /// itself would be polled again by the innermost list, before the other lists had a turn.)
    async fn wait_for_quiet(&self) {
        let (mut quiet, mut asked) = (0, 0);
        while quiet < IDLE_POLLS_BEFORE_DISPATCH {
            tokio::task::yield_now().await;
            let now = self.loader.open.lock().expect("loader lock").get(self.group).map_or(0, |b| b.waiting.len());
            if now >= MAX_WAITING {
                return;
            }
            quiet = if now == asked { quiet + 1 } else { 0 };
            asked = now;
        }
    }
}

impl<L: Load> Drop for Leader<'_, L> {
    fn drop(&mut self) {
        self.take();
    }
}

impl<L: Load> Loader<L> {
    pub(super) fn new(load: L) -> Self {
        Self { load: Arc::new(load), open: Mutex::default() }
    }

    /// The thing, if it is there.
    pub(super) async fn get(&self, scope: BatchScope<'_>, group: L::Group, key: L::Key) -> Result<Option<L::Value>> {
        let group = (scope.name, group);
        let answer = loop {
            let joined = {
                let mut open = self.open.lock().expect("loader lock");
                match open.get_mut(&group) {
                    Some(batch) => {
                        batch.keys.insert(key.clone());
                        let (sender, receiver) = oneshot::channel();
                        batch.waiting.push(sender);
                        Some(receiver)
                    }
                    None => {
                        let batch = Batch { keys: HashSet::from([key.clone()]), waiting: Vec::new() };
                        open.insert(group.clone(), batch);
                        None
                    }
                }
            };
            match joined {
                None => break self.lead(&group, scope.budget.held()).await,
                Some(receiver) => {
                    // Out of tokio's budget: a waiter it held back would come late for the next level's batch.
                    if let Ok(answer) = tokio::task::unconstrained(receiver).await {
                        break answer;
                    }
                }
            }
        };
        if answer.is_err() && scope.budget.held().is_exhausted() {
            scope.budget.end_memory_exhausted(scope.exhausted).await;
        }
        Ok(answer?.get(&key).cloned())
    }

    async fn lead(&self, group: &Group<L>, held: &MemoryBudget) -> LoadResult<L> {
        let batch = {
            let leader = Leader { loader: self, group };
            leader.wait_for_quiet().await;
            let batch = leader.take().expect("only its leader takes a batch");
            std::mem::forget(leader);
            batch
        };
        let (load, held, group) = (self.load.clone(), held.clone(), group.1.clone());
        let keys = batch.keys.into_iter().collect();
        // The request may belong to a reader that has stopped reading.
        let answer = spawn_and_join(async move { load.load(&held, &group, keys).await })
            .await
            .map(Arc::new)
            .map_err(ResolverError::from);
        for waiting in batch.waiting {
            // Who is gone no longer needs it.
            let _ = waiting.send(answer.clone());
        }
        answer
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_util::future::join_all;

    use super::*;

    #[derive(Default)]
    struct Double(Arc<AtomicUsize>);

    impl Load for Double {
        type Group = ();
        type Key = u32;
        type Value = u32;

        async fn load(
            &self,
            _held: &MemoryBudget,
            (): &(),
            keys: Vec<u32>,
        ) -> std::result::Result<HashMap<u32, u32>, crate::error::Error> {
            self.0.fetch_add(1, Ordering::Relaxed);
            tokio::task::yield_now().await;
            if keys.contains(&13) {
                return Err(crate::error::Error::NotFound("luck"));
            }
            Ok(keys.into_iter().filter(|key| key % 2 == 0).map(|key| (key, key * 2)).collect())
        }
    }

    #[tokio::test]
    async fn all_that_is_ready_shares_one_load() {
        let loads = Arc::<AtomicUsize>::default();
        let of = <(Budget, Counter)>::default();
        let loader = Loader::new(Double(loads.clone()));
        let found = join_all((0..300).map(|key| loader.get(BatchScope::of_test(&of), (), 100 + key / 2))).await;
        assert_eq!(loads.load(Ordering::Relaxed), 1);
        assert_eq!(found[8].as_ref().unwrap(), &Some(208));
        assert_eq!(found[2].as_ref().unwrap(), &None);
    }

    #[tokio::test]
    async fn an_error_reaches_all_who_waited() {
        let of = <(Budget, Counter)>::default();
        let loader = Loader::new(Double::default());
        let found = join_all([12, 13, 14].map(|key| loader.get(BatchScope::of_test(&of), (), key))).await;
        assert!(found.iter().all(std::result::Result::is_err));
        assert_eq!(loader.get(BatchScope::of_test(&of), (), 12).await.unwrap(), Some(24));
    }

    #[tokio::test]
    async fn a_leader_that_is_dropped_fails_nobody() {
        let of = <(Budget, Counter)>::default();
        let loader = Loader::new(Double::default());
        let mut leader = Box::pin(loader.get(BatchScope::of_test(&of), (), 2));
        assert!(futures_util::poll!(&mut leader).is_pending());
        let mut follower = Box::pin(loader.get(BatchScope::of_test(&of), (), 4));
        assert!(futures_util::poll!(&mut follower).is_pending());
        drop(leader);
        assert_eq!(follower.await.unwrap(), Some(8));
    }
}
