//! A bounded channel of events to many subscribers, of which each receives every event.
//!
//! A subscriber stays registered between events. That it has received everything costs it no lock and no write, and a
//! thousand subscribers of one channel don't wait for each other at each event.
//!
//! Invariants: an event is kept until the last subscriber has received it, or until as many newer ones are kept. A
//! subscriber is woken after each event is kept and after the channel is closed, whether it waits or not.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

/// The side of the publisher. Dropped, it closes the channel.
pub(super) struct Sender<T>(Arc<Shared<T>>);

/// One subscriber.
pub(super) struct Receiver<T> {
    shared: Arc<Shared<T>>,
    /// The number of the next event.
    next: u64,
    subscriber: Arc<Subscriber>,
    /// The waker that `subscriber` has.
    registered: Option<Waker>,
}

/// The result of [`Receiver::try_recv`].
pub(super) enum Received<T> {
    Event(T),
    /// Events were dropped before this subscriber received them.
    Lagged,
    /// The publisher is gone, and every event was received.
    Closed,
}

struct Shared<T> {
    capacity: usize,
    /// The number of the next event that is published. Changed under the lock of `kept`.
    end: AtomicU64,
    is_closed: AtomicBool,
    kept: Mutex<Kept<T>>,
    subscribers: Mutex<Vec<Arc<Subscriber>>>,
}

struct Kept<T> {
    /// The last events, each with the number of subscribers that have not received it.
    events: VecDeque<(T, usize)>,
    n_subscribers: usize,
}

struct Subscriber {
    /// The index among the subscribers of the channel. Changed under their lock.
    at: AtomicUsize,
    waker: Mutex<Option<Waker>>,
}

impl<T> Shared<T> {
    fn kept(&self) -> MutexGuard<'_, Kept<T>> {
        self.kept.lock().expect("events lock")
    }

    fn subscribers(&self) -> MutexGuard<'_, Vec<Arc<Subscriber>>> {
        self.subscribers.lock().expect("subscribers lock")
    }

    /// Without the lock of the events, because the first subscribers receive them meanwhile.
    fn wake_all(&self) {
        for subscriber in self.subscribers().iter() {
            if let Some(waker) = &*subscriber.waker.lock().expect("waker lock") {
                waker.wake_by_ref();
            }
        }
    }
}

impl<T> Kept<T> {
    /// Counts one subscriber less for each event from this index on, and drops what nobody wants any more.
    fn release(&mut self, from: usize, n: usize) {
        for (_, n_missing) in self.events.iter_mut().skip(from).take(n) {
            *n_missing -= 1;
        }
        while self.events.front().is_some_and(|(_, n_missing)| *n_missing == 0) {
            self.events.pop_front();
        }
    }
}

impl<T> Sender<T> {
    /// A channel that keeps at most `capacity` events.
    pub(super) fn new(capacity: usize) -> Self {
        Self(Arc::new(Shared {
            capacity,
            end: AtomicU64::new(0),
            is_closed: AtomicBool::new(false),
            kept: Mutex::new(Kept { events: VecDeque::new(), n_subscribers: 0 }),
            subscribers: Mutex::default(),
        }))
    }

    /// Subscribes to the events from now on.
    pub(super) fn subscribe(&self) -> Receiver<T> {
        let mut subscribers = self.0.subscribers();
        let subscriber = Arc::new(Subscriber { at: AtomicUsize::new(subscribers.len()), waker: Mutex::default() });
        subscribers.push(subscriber.clone());
        let mut kept = self.0.kept();
        kept.n_subscribers += 1;
        let next = self.0.end.load(Ordering::Acquire);
        Receiver { shared: self.0.clone(), next, subscriber, registered: None }
    }

    pub(super) fn send(&self, event: T) {
        let mut kept = self.0.kept();
        if kept.n_subscribers == 0 {
            return;
        }
        let oldest = if kept.events.len() == self.0.capacity { kept.events.pop_front() } else { None };
        let n_subscribers = kept.n_subscribers;
        kept.events.push_back((event, n_subscribers));
        self.0.end.fetch_add(1, Ordering::AcqRel);
        drop(kept);
        drop(oldest);
        self.0.wake_all();
    }

    /// The events that a subscriber has not received.
    pub(super) fn len(&self) -> usize {
        self.0.kept().events.len()
    }

    pub(super) fn n_subscribers(&self) -> usize {
        self.0.kept().n_subscribers
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        self.0.is_closed.store(true, Ordering::Release);
        self.0.wake_all();
    }
}

impl<T: Clone> Receiver<T> {
    /// Waits until there is something to receive.
    pub(super) fn poll_ready(&mut self, cx: &Context<'_>) -> Poll<()> {
        if self.is_ready() {
            return Poll::Ready(());
        }
        if self.registered.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            return Poll::Pending;
        }
        self.registered = Some(cx.waker().clone());
        let earlier = self.subscriber.waker.lock().expect("waker lock").replace(cx.waker().clone());
        drop(earlier);
        // What came before the registration has not woken this waker.
        if self.is_ready() { Poll::Ready(()) } else { Poll::Pending }
    }

    fn is_ready(&self) -> bool {
        self.next != self.shared.end.load(Ordering::Acquire) || self.shared.is_closed.load(Ordering::Acquire)
    }

    /// The next event; `None` if there is none yet.
    pub(super) fn try_recv(&mut self) -> Option<Received<T>> {
        // Read first: a closed channel gets no more events.
        let is_closed = self.shared.is_closed.load(Ordering::Acquire);
        if self.next == self.shared.end.load(Ordering::Acquire) {
            return is_closed.then_some(Received::Closed);
        }
        let mut kept = self.shared.kept();
        let begin = self.shared.end.load(Ordering::Acquire) - kept.events.len() as u64;
        let Some(index) = self.next.checked_sub(begin) else {
            self.next = begin;
            return Some(Received::Lagged);
        };
        let index = usize::try_from(index).expect("within the capacity");
        let event = kept.events[index].0.clone();
        kept.release(index, 1);
        self.next += 1;
        Some(Received::Event(event))
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        let mut subscribers = self.shared.subscribers();
        let at = self.subscriber.at.load(Ordering::Relaxed);
        subscribers.swap_remove(at);
        if let Some(moved) = subscribers.get(at) {
            moved.at.store(at, Ordering::Relaxed);
        }
        let mut kept = self.shared.kept();
        kept.n_subscribers -= 1;
        let begin = self.shared.end.load(Ordering::Acquire) - kept.events.len() as u64;
        let from = usize::try_from(self.next.saturating_sub(begin)).expect("within the capacity");
        kept.release(from, usize::MAX);
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    fn received<T: Clone>(receiver: &mut Receiver<T>) -> Option<T> {
        match receiver.try_recv() {
            Some(Received::Event(event)) => Some(event),
            _ => None,
        }
    }

    #[test]
    fn an_event_is_kept_until_the_last_subscriber_has_received_it_or_is_gone() {
        let sender = Sender::new(4);
        sender.send(Arc::new(0));
        assert_eq!(sender.len(), 0);
        let (mut first, mut second, third) = (sender.subscribe(), sender.subscribe(), sender.subscribe());
        let event = Arc::new(1);
        sender.send(event.clone());
        assert_eq!((received(&mut first), received(&mut second)), (Some(event.clone()), Some(event.clone())));
        assert_eq!((sender.len(), Arc::strong_count(&event)), (1, 2));
        drop(third);
        assert_eq!((sender.len(), Arc::strong_count(&event), sender.n_subscribers()), (0, 1, 2));
        // It wants none of the earlier events.
        sender.send(event.clone());
        let mut late = sender.subscribe();
        assert_eq!((received(&mut late), received(&mut first)), (None, Some(event.clone())));
        drop(second);
        assert_eq!((sender.len(), Arc::strong_count(&event)), (0, 1));
    }

    #[test]
    fn a_slow_subscriber_lags_and_a_closed_channel_still_gives_what_it_keeps() {
        let sender = Sender::new(2);
        let (mut slow, mut other) = (sender.subscribe(), sender.subscribe());
        (1..=2).for_each(|n| sender.send(n));
        assert_eq!(received(&mut other), Some(1));
        (3..=4).for_each(|n| sender.send(n));
        assert!(matches!(slow.try_recv(), Some(Received::Lagged)));
        assert!(matches!(other.try_recv(), Some(Received::Lagged)));
        assert_eq!((received(&mut slow), received(&mut other)), (Some(3), Some(3)));
        drop(sender);
        assert_eq!((received(&mut slow), received(&mut other)), (Some(4), Some(4)));
        assert!(matches!(slow.try_recv(), Some(Received::Closed)));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn no_subscriber_sleeps_through_an_event() {
        const N: u32 = 20_000;
        let sender = Sender::new(8);
        let subscribers: Vec<_> = (0..8).map(|_| sender.subscribe()).collect();
        let receive = |mut receiver: Receiver<u32>| async move {
            let mut last = 0;
            loop {
                poll_fn(|cx| receiver.poll_ready(cx)).await;
                match receiver.try_recv().expect("an event") {
                    Received::Event(n) => {
                        assert!(n > last, "{n} after {last}");
                        last = n;
                    }
                    Received::Lagged => {}
                    Received::Closed => return last,
                }
            }
        };
        let tasks: Vec<_> = subscribers.into_iter().map(|receiver| tokio::spawn(receive(receiver))).collect();
        for n in 1..=N {
            sender.send(n);
            if n % 5 == 0 {
                tokio::task::yield_now().await;
            }
        }
        drop(sender);
        for task in tasks {
            assert_eq!(task.await.unwrap(), N);
        }
    }
}
