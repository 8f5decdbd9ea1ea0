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
        _budget: &MemoryBudget,
        (): &(),
        keys: Vec<u32>,
    ) -> std::result::Result<HashMap<u32, u32>, Error> {
        self.0.fetch_add(1, Ordering::Relaxed);
        tokio::task::yield_now().await;
        if keys.contains(&13) {
            return Err(Error::NotFound("luck"));
        }
        Ok(keys.into_iter().filter(|key| key % 2 == 0).map(|key| (key, key * 2)).collect())
    }
}

#[tokio::test]
async fn concurrent_resolvers_share_one_load() {
    let loads = Arc::<AtomicUsize>::default();
    let of = <(Budget, Counter)>::default();
    let loader = Loader::new(Double(loads.clone()));
    let found = join_all((0..300).map(|key| loader.get(BatchScope::of_test(&of), (), 100 + key / 2))).await;
    assert_eq!(loads.load(Ordering::Relaxed), 1);
    assert_eq!(found[8].as_ref().unwrap(), &Some(208));
    assert_eq!(found[2].as_ref().unwrap(), &None);
}

#[tokio::test]
async fn requests_do_not_share_a_batch() {
    let loads = Arc::<AtomicUsize>::default();
    let (of, other) = (<(Budget, Counter)>::default(), <(Budget, Counter)>::default());
    let loader = Loader::new(Double(loads.clone()));
    let (a, b) =
        tokio::join!(loader.get(BatchScope::of_test(&of), (), 2), loader.get(BatchScope::of_test(&other), (), 2));
    assert_eq!((a.unwrap(), b.unwrap()), (Some(4), Some(4)));
    assert_eq!(loads.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn an_error_reaches_all_waiting_resolvers() {
    let of = <(Budget, Counter)>::default();
    let loader = Loader::new(Double::default());
    let found = join_all([12, 13, 14].map(|key| loader.get(BatchScope::of_test(&of), (), key))).await;
    assert!(found.iter().all(std::result::Result::is_err));
    assert_eq!(loader.get(BatchScope::of_test(&of), (), 12).await.unwrap(), Some(24));
}

#[tokio::test]
async fn a_dropped_leader_fails_no_other_resolver() {
    let of = <(Budget, Counter)>::default();
    let loader = Loader::new(Double::default());
    let mut leader = Box::pin(loader.get(BatchScope::of_test(&of), (), 2));
    assert!(futures_util::poll!(&mut leader).is_pending());
    let mut follower = Box::pin(loader.get(BatchScope::of_test(&of), (), 4));
    assert!(futures_util::poll!(&mut follower).is_pending());
    drop(leader);
    assert_eq!(follower.await.unwrap(), Some(8));
}
