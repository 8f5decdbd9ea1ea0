use std::sync::Mutex;

use futures_util::StreamExt;

use super::*;
use crate::hub::{CAPACITY, Close, Hub};
use crate::ids::{DeviceId, HomeId, UserId};
use crate::turns::Turns;

const PAGE: usize = 500;
/// How far a catch-up overlaps what was sent.
const OVERLAP: i64 = 20;

/// Numbers that were committed, in a database that may be away.
#[derive(Default)]
struct Stored {
    numbers: Vec<i64>,
    n_failures: u32,
}

struct Numbers {
    stored: Arc<Mutex<Stored>>,
    newest: i64,
    sent: SentChanges<i64>,
}

impl Feed for Numbers {
    type Event = i64;
    type Item = i64;
    type Cursor = i64;

    fn resume(&self, first: &i64) -> i64 {
        self.newest.max(*first) - OVERLAP
    }

    fn page(&self, after: i64) -> PageRead<i64, i64> {
        let stored = self.stored.clone();
        Box::pin(async move {
            let mut stored = stored.lock().unwrap();
            if stored.n_failures > 0 {
                stored.n_failures -= 1;
                return Err(Error::unavailable("the database is away"));
            }
            let items: VecDeque<_> = stored.numbers.iter().copied().filter(|n| *n > after).take(PAGE).collect();
            Ok(Page::limited(items, PAGE as i64, |last| *last))
        })
    }

    async fn item(&mut self, event: &Arc<i64>) -> Result<Option<i64>, Error> {
        Ok(self.accept(event).then_some(**event))
    }

    fn accept(&mut self, number: &i64) -> bool {
        self.newest = self.newest.max(*number);
        self.sent.advance(*number, DateTime::UNIX_EPOCH)
    }
}

struct World {
    hub: Hub<i64>,
    home: HomeId,
    device: DeviceId,
    stored: Arc<Mutex<Stored>>,
    metrics: Metrics,
}

impl World {
    fn new() -> Self {
        let (hub, stored, metrics) = (Hub::default(), Arc::default(), Metrics::default());
        Self { hub, home: HomeId::from_database(1), device: DeviceId::from_database(1), stored, metrics }
    }

    fn commit(&self, numbers: impl IntoIterator<Item = i64>) {
        for number in numbers {
            self.stored.lock().unwrap().numbers.push(number);
            self.hub.publish(self.home, self.device, &Arc::new(number));
        }
    }

    fn follow(&self, start: Option<i64>) -> impl Stream<Item = Result<i64, Error>> + Unpin + use<> {
        let feed = Numbers { stored: self.stored.clone(), newest: 0, sent: SentChanges::default() };
        let followed = follow(feed, self.hub.subscribe(self.home, None), start, no_turns(), &self.metrics);
        Box::pin(followed.map(|followed| followed.map(|followed| followed.item)))
    }
}

fn no_turns() -> UserTurns {
    Turns::default().of(UserId::from_database(1))
}

async fn next(stream: &mut (impl Stream<Item = Result<i64, Error>> + Unpin), n: usize) -> Vec<i64> {
    stream.take(n).map(Result::unwrap).collect().await
}

#[tokio::test]
async fn stored_items_come_first_then_live_ones_each_once() {
    let world = World::new();
    world.commit(1..=3);
    let mut stream = world.follow(Some(1));
    let mut live = world.follow(None);
    world.commit(4..=5);
    world.hub.publish(world.home, world.device, &Arc::new(5));
    world.hub.close_home(world.home);
    assert_eq!(next(&mut stream, 10).await, [2, 3, 4, 5]);
    assert_eq!(next(&mut live, 10).await, [4, 5]);
}

#[tokio::test]
async fn a_slow_subscriber_is_caught_up_from_the_database() {
    let world = World::new();
    let mut stream = world.follow(None);
    world.commit(1..=OVERLAP);
    assert_eq!(next(&mut stream, 20).await, (1..=OVERLAP).collect::<Vec<_>>());
    world.commit(OVERLAP + 1..=1_500);
    assert_eq!(next(&mut stream, 1_480).await, (OVERLAP + 1..=1_500).collect::<Vec<_>>());
    assert!(world.metrics.subscription_catch_ups.get() > 1_500 - CAPACITY as u64);
    world.commit([1_501]);
    assert_eq!(next(&mut stream, 1).await, [1_501], "no item of the overlap comes twice");
}

#[tokio::test]
async fn a_subscriber_that_is_too_far_behind_ends_as_lagged() {
    let world = World::new();
    let mut stream = world.follow(None);
    world.commit(1..=2 * MAX_CATCH_UP as i64);
    let mut n_items = 0;
    let error = loop {
        match stream.next().await.unwrap() {
            Ok(_) => n_items += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, Error::Lagged) && n_items > MAX_CATCH_UP, "{error:?} after {n_items}");
    assert!(stream.next().await.is_none());
    assert_eq!(world.metrics.subscriptions_lagged.get(), 1);
}

#[tokio::test]
async fn a_follower_waits_for_an_absent_database_but_not_for_ever() {
    let world = World::new();
    world.commit([1]);
    world.stored.lock().unwrap().n_failures = 1;
    assert_eq!(world.follow(Some(0)).next().await.unwrap().unwrap(), 1);

    world.stored.lock().unwrap().n_failures = MAX_RETRIES + 1;
    let feed = Numbers { stored: world.stored.clone(), newest: 0, sent: SentChanges::default() };
    let receiver = world.hub.subscribe(world.home, None);
    let mut follower = Follower::new(feed, receiver, Some(0), no_turns(), &world.metrics);
    follower.n_retries = MAX_RETRIES;
    assert!(matches!(follower.next().await, Step::Item(Err(Error::Unavailable(_)))));
    assert!(matches!(follower.next().await, Step::End));
    assert_eq!(RETRY_PAUSE * MAX_RETRIES, Duration::from_secs(30));
}
