//! Following one kind of change of a home: live from the hub, and from the database where the hub has dropped
//! events or the subscriber wants earlier ones.
//!
//! The follower subscribes to the hub before it reads the database, so no change falls between the two. All
//! feeds share these policies:
//!
//! - **Lag.** The hub keeps a bounded number of events for a slow subscriber. When it drops some, the follower
//!   reads the missed changes from the database and returns to the hub. A subscriber that is behind by more
//!   than `MAX_CATCH_UP` changes ends with `LAGGED`.
//! - **Turns.** The reads of one user take turns with those of others ([`crate::turns`]).
//! - **Outage.** A read that finds the database unavailable is repeated for half a minute. Nothing is committed
//!   meanwhile, so no change is late; an end would only make every client subscribe again at once.

use std::collections::VecDeque;
use std::hash::Hash;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use async_stream::stream;
use chrono::{DateTime, TimeDelta, Utc};
use futures_util::future::BoxFuture;
use futures_util::stream::Stream;
use lru::LruCache;
use prometheus_client::metrics::counter::Counter;
use tokio::time::sleep;

use crate::error::Error;
use crate::hub::{Event, HubEvent, HubReceiver, Renderings};
use crate::metrics::Metrics;
use crate::turns::UserTurns;

/// Changes a subscriber may be behind after the hub has dropped events.
const MAX_CATCH_UP: usize = 10_000;
/// Pause before a read is repeated, and how often it is repeated: half a minute in all.
const RETRY_PAUSE: Duration = Duration::from_millis(500);
const MAX_RETRIES: u32 = 60;
/// A change is committed at most this long after the time it carries: longer than any transaction takes. A feed
/// that reads by time starts so much earlier.
pub const MAX_COMMIT_DELAY: TimeDelta = TimeDelta::seconds(60);
/// Items whose last change [`SentChanges`] remembers.
const REMEMBERED: NonZeroUsize = NonZeroUsize::new(1_024).expect("positive");

/// One kind of change of a home, as one subscriber receives it.
pub trait Feed: Send + 'static {
    /// What the hub carries.
    type Event: Send + Sync + 'static;
    /// What the subscriber receives.
    type Item: Send + 'static;
    /// A position in the order in which the database returns items.
    type Cursor: Copy + Send + 'static;

    /// Where to read from when the hub has dropped events. It dropped none before `first`, which may be later than
    /// anything the feed knows: its device may have been silent for long.
    fn resume(&self, first: &Self::Event) -> Self::Cursor;

    /// Reads the page after a cursor.
    fn page(&self, after: Self::Cursor) -> PageRead<Self::Item, Self::Cursor>;

    /// The item of a live event; `None` where the subscriber does not want it or has already received it.
    fn item(&mut self, event: &Arc<Self::Event>) -> impl Future<Output = Result<Option<Self::Item>, Error>> + Send;

    /// Whether the subscriber wants an item of a page and has not received it yet.
    fn accept(&mut self, item: &Self::Item) -> bool;
}

/// A page that is being read.
pub type PageRead<T, C> = BoxFuture<'static, Result<Page<T, C>, Error>>;

/// An item as the subscriber receives it.
pub struct Followed<T> {
    pub item: T,
    /// What the subscribers of a live event share; `None` for an item read from the database.
    pub renderings: Option<Arc<Renderings>>,
}

/// A page of a feed.
pub struct Page<T, C> {
    pub items: VecDeque<T>,
    /// Where the next page starts; `None` after the last one.
    pub next: Option<C>,
}

impl<T, C> Page<T, C> {
    /// A page that was read with a limit: the next one starts after its last item, where it is full.
    pub fn limited(items: impl Into<VecDeque<T>>, limit: i64, cursor: impl FnOnce(&T) -> C) -> Self {
        let items = items.into();
        let is_full = i64::try_from(items.len()).is_ok_and(|n| n >= limit);
        let next = items.back().filter(|_| is_full).map(cursor);
        Self { items, next }
    }
}

/// Follows a feed until its home or device is closed or an error occurs, which is the last item. Starts with the items
/// after `start`, or with the next event where there is no `start`.
pub fn follow<F: Feed>(
    feed: F,
    receiver: HubReceiver<F::Event>,
    start: Option<F::Cursor>,
    turns: UserTurns,
    metrics: &Metrics,
) -> impl Stream<Item = Result<Followed<F::Item>, Error>> + Send + 'static + use<F> {
    let mut follower = Follower::new(feed, receiver, start, turns, metrics);
    stream! {
        while let Some(item) = follower.next().await {
            yield item;
        }
    }
}

struct Follower<F: Feed> {
    feed: F,
    receiver: HubReceiver<F::Event>,
    turns: UserTurns,
    /// Read from the database and not yet returned.
    page: VecDeque<F::Item>,
    state: State<F>,
    /// Items returned since the hub dropped events; `None` before it ever did.
    n_caught_up: Option<usize>,
    /// Retries since the last read that succeeded.
    n_retries: u32,
    catch_ups: Counter,
    lagged: Counter,
}

enum State<F: Feed> {
    /// The next page starts after this cursor.
    Reading(F::Cursor),
    Live,
    /// This event came from the hub; its item is still to be made.
    Resolving(Event<F::Event>),
    Ended,
}

impl<F: Feed> Follower<F> {
    fn new(
        feed: F,
        receiver: HubReceiver<F::Event>,
        start: Option<F::Cursor>,
        turns: UserTurns,
        metrics: &Metrics,
    ) -> Self {
        Self {
            feed,
            receiver,
            turns,
            page: VecDeque::new(),
            state: start.map_or(State::Live, State::Reading),
            n_caught_up: None,
            n_retries: 0,
            catch_ups: metrics.subscription_catch_ups.clone(),
            lagged: metrics.subscriptions_lagged.clone(),
        }
    }

    async fn next(&mut self) -> Option<Result<Followed<F::Item>, Error>> {
        loop {
            match self.step().await {
                Ok(item) => return item.map(Ok),
                Err(Error::Unavailable(_)) if self.n_retries < MAX_RETRIES => {
                    self.n_retries += 1;
                    sleep(RETRY_PAUSE).await;
                }
                Err(error) => {
                    self.state = State::Ended;
                    return Some(Err(error));
                }
            }
        }
    }

    /// The next item, `None` at the end. An error leaves the state as it is, so the step can be repeated.
    async fn step(&mut self) -> Result<Option<Followed<F::Item>>, Error> {
        loop {
            while let Some(item) = self.page.pop_front() {
                if self.feed.accept(&item) {
                    self.n_caught_up = self.n_caught_up.map(|n| n + 1);
                    return Ok(Some(Followed { item, renderings: None }));
                }
            }
            match std::mem::replace(&mut self.state, State::Live) {
                State::Ended => {
                    self.state = State::Ended;
                    return Ok(None);
                }
                State::Reading(after) => {
                    self.state = State::Reading(after);
                    self.read(after).await?;
                }
                State::Live => match self.receiver.recv().await {
                    HubEvent::Published(event) => self.state = State::Resolving(event),
                    HubEvent::Lagged(first) => {
                        self.n_caught_up = Some(0);
                        self.state = State::Reading(self.feed.resume(&first));
                    }
                    HubEvent::Closed => self.state = State::Ended,
                },
                State::Resolving(event) => match self.feed.item(&event.value).await {
                    Ok(item) => {
                        self.n_retries = 0;
                        if let Some(item) = item {
                            return Ok(Some(Followed { item, renderings: Some(event.renderings) }));
                        }
                    }
                    Err(error) => {
                        self.state = State::Resolving(event);
                        return Err(error);
                    }
                },
            }
        }
    }

    async fn read(&mut self, after: F::Cursor) -> Result<(), Error> {
        if self.n_caught_up.is_some_and(|n| n > MAX_CATCH_UP) {
            self.lagged.inc();
            return Err(Error::Lagged);
        }
        let page = self.turns.run(self.feed.page(after)).await?;
        self.n_retries = 0;
        if self.n_caught_up.is_some() {
            self.catch_ups.inc_by(page.items.len() as u64);
        }
        self.page = page.items;
        self.state = page.next.map_or(State::Live, State::Reading);
        Ok(())
    }
}

/// The last change sent of each of the most recent items. A feed whose database order is not the order of
/// commits reads some changes again after a lag; and two publishers of one item may overtake each other.
///
/// Every statement that changes an item gives it a later time than it had, even if the database's clock was set back.
pub struct SentChanges<K: Hash + Eq>(LruCache<K, DateTime<Utc>>);

impl<K: Hash + Eq> SentChanges<K> {
    /// Whether the change is newer than the last one sent of this item; remembers it if so.
    pub fn advance(&mut self, key: K, changed_at: DateTime<Utc>) -> bool {
        if self.0.get(&key).is_some_and(|sent_at| *sent_at >= changed_at) {
            return false;
        }
        self.0.put(key, changed_at);
        true
    }
}

impl<K: Hash + Eq> Default for SentChanges<K> {
    fn default() -> Self {
        Self(LruCache::new(REMEMBERED))
    }
}

#[cfg(test)]
mod tests {
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
        assert!(matches!(follower.next().await, Some(Err(Error::Unavailable(_)))));
        assert!(follower.next().await.is_none());
        assert_eq!(RETRY_PAUSE * MAX_RETRIES, Duration::from_secs(30));
    }
}
