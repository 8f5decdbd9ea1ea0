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
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::FutureExt;
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
    Following::Waiting(Box::new(Follower::new(feed, receiver, start, turns, metrics)))
}

/// A thousand of these are polled at each event. While one waits for an event, it has no future in memory.
enum Following<F: Feed> {
    Waiting(Box<Follower<F>>),
    Working(BoxFuture<'static, Worked<F>>),
    Ended,
}

/// What comes next, and the follower that goes on.
type Worked<F> = (Step<FollowedResult<F>>, Box<Follower<F>>);

type FollowedResult<F> = Result<Followed<<F as Feed>::Item>, Error>;

/// What a follower has next.
enum Step<T> {
    Item(T),
    /// Nothing before the next event.
    Nothing,
    /// Nothing any more.
    End,
}

impl<F: Feed> Stream for Following<F> {
    type Item = FollowedResult<F>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<FollowedResult<F>>> {
        loop {
            match &mut *self {
                Self::Waiting(follower) => {
                    ready!(follower.poll_ready(cx));
                    let Self::Waiting(mut follower) = std::mem::replace(&mut *self, Self::Ended) else { continue };
                    *self = Self::Working(async move { (follower.next().await, follower) }.boxed());
                }
                Self::Working(work) => {
                    let (step, follower) = ready!(work.poll_unpin(cx));
                    *self = Self::Waiting(follower);
                    match step {
                        Step::Item(item) => return Poll::Ready(Some(item)),
                        Step::Nothing => {}
                        Step::End => *self = Self::Ended,
                    }
                }
                Self::Ended => return Poll::Ready(None),
            }
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

    /// Whether there is something to do. Otherwise the task is woken for the next event.
    fn poll_ready(&mut self, cx: &Context<'_>) -> Poll<()> {
        match self.state {
            State::Live if self.page.is_empty() => self.receiver.poll_ready(cx),
            _ => Poll::Ready(()),
        }
    }

    async fn next(&mut self) -> Step<FollowedResult<F>> {
        loop {
            match self.step().await {
                Ok(Step::Item(item)) => return Step::Item(Ok(item)),
                Ok(Step::Nothing) => return Step::Nothing,
                Ok(Step::End) => return Step::End,
                Err(Error::Unavailable(_)) if self.n_retries < MAX_RETRIES => {
                    self.n_retries += 1;
                    sleep(RETRY_PAUSE).await;
                }
                Err(error) => {
                    self.state = State::Ended;
                    return Step::Item(Err(error));
                }
            }
        }
    }

    /// An error leaves the state as it is, so the step can be repeated.
    async fn step(&mut self) -> Result<Step<Followed<F::Item>>, Error> {
        loop {
            while let Some(item) = self.page.pop_front() {
                if self.feed.accept(&item) {
                    self.n_caught_up = self.n_caught_up.map(|n| n + 1);
                    return Ok(Step::Item(Followed { item, renderings: None }));
                }
            }
            match std::mem::replace(&mut self.state, State::Live) {
                State::Ended => {
                    self.state = State::Ended;
                    return Ok(Step::End);
                }
                State::Reading(after) => {
                    self.state = State::Reading(after);
                    self.read(after).await?;
                }
                State::Live => match self.receiver.try_recv() {
                    None => return Ok(Step::Nothing),
                    Some(HubEvent::Published(event)) => self.state = State::Resolving(event),
                    Some(HubEvent::Lagged(first)) => {
                        self.n_caught_up = Some(0);
                        self.state = State::Reading(self.feed.resume(&first));
                    }
                    Some(HubEvent::Closed) => self.state = State::Ended,
                },
                State::Resolving(event) => match self.feed.item(&event.value).await {
                    Ok(item) => {
                        self.n_retries = 0;
                        if let Some(item) = item {
                            return Ok(Step::Item(Followed { item, renderings: Some(event.renderings) }));
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
mod tests;
