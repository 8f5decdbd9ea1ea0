//! Fan-out of committed events by home. Publishers never wait, and memory is bounded: a subscriber that falls
//! behind loses the oldest events, learns how many, and reads them from the database ([`crate::follow`]).

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use tokio::sync::broadcast;

use crate::ids::HomeId;

/// Events a home's channel holds for its slowest subscriber before that subscriber lags.
pub const CAPACITY: usize = 256;

/// One broadcast channel per home that has a subscriber. Cheap to clone; all clones are one hub.
pub struct Hub<T> {
    homes: Arc<Homes<T>>,
}

type Homes<T> = Mutex<HashMap<HomeId, broadcast::Sender<Arc<T>>>>;

/// One subscriber of a home's channel. The channel is removed with its last subscriber.
pub struct HubReceiver<T> {
    home: HomeId,
    homes: Arc<Homes<T>>,
    /// `None` only while dropping.
    receiver: Option<broadcast::Receiver<Arc<T>>>,
}

/// The result of [`HubReceiver::recv`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HubEvent<T> {
    Published(Arc<T>),
    /// The subscriber fell behind, and the channel has dropped this many events.
    Lagged(u64),
    /// The home is closed: no event follows.
    Closed,
}

impl<T> Clone for Hub<T> {
    fn clone(&self) -> Self {
        Self { homes: self.homes.clone() }
    }
}

impl<T> Default for Hub<T> {
    fn default() -> Self {
        Self { homes: Arc::default() }
    }
}

impl<T> Hub<T> {
    /// Sends an event to the present subscribers of the home.
    pub fn publish(&self, home: HomeId, event: Arc<T>) {
        let homes = self.homes.lock().expect("hub lock");
        if let Some(sender) = homes.get(&home) {
            // An error means that the last subscriber is being dropped.
            let _ = sender.send(event);
        }
    }

    /// Whether the home has a subscriber, so that an event is worth making.
    pub fn has_subscriber(&self, home: HomeId) -> bool {
        self.homes.lock().expect("hub lock").contains_key(&home)
    }

    /// Subscribes to the events of a home from now on.
    pub fn subscribe(&self, home: HomeId) -> HubReceiver<T> {
        let mut homes = self.homes.lock().expect("hub lock");
        let sender = homes.entry(home).or_insert_with(|| broadcast::Sender::new(CAPACITY));
        HubReceiver { home, receiver: Some(sender.subscribe()), homes: self.homes.clone() }
    }

    /// Ends every subscription of a deleted home.
    pub fn close(&self, home: HomeId) {
        self.homes.lock().expect("hub lock").remove(&home);
    }

    /// The homes that have a subscriber.
    pub fn homes(&self) -> Vec<HomeId> {
        self.homes.lock().expect("hub lock").keys().copied().collect()
    }

    /// The number of homes that have a subscriber: zero once every subscription has ended.
    pub fn n_homes(&self) -> usize {
        self.homes.lock().expect("hub lock").len()
    }
}

/// A hub of any event type, for code that closes a home in all of them.
pub trait HomeChannel: Send + Sync {
    /// Ends every subscription of a deleted home.
    fn close(&self, home: HomeId);
}

impl<T: Send + Sync> HomeChannel for Hub<T> {
    fn close(&self, home: HomeId) {
        Hub::close(self, home);
    }
}

impl<T> HubReceiver<T> {
    /// Waits for the next event.
    pub async fn recv(&mut self) -> HubEvent<T> {
        let Some(receiver) = &mut self.receiver else { return HubEvent::Closed };
        match receiver.recv().await {
            Ok(event) => HubEvent::Published(event),
            Err(broadcast::error::RecvError::Lagged(n)) => HubEvent::Lagged(n),
            Err(broadcast::error::RecvError::Closed) => HubEvent::Closed,
        }
    }
}

impl<T> Drop for HubReceiver<T> {
    fn drop(&mut self) {
        let mut homes = self.homes.lock().expect("hub lock");
        self.receiver = None;
        // After `close`, the home may have a new channel with subscribers of its own.
        if homes.get(&self.home).is_some_and(|sender| sender.receiver_count() == 0) {
            homes.remove(&self.home);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOME: fn() -> HomeId = || HomeId::from_database(1);

    #[tokio::test]
    async fn the_channel_is_removed_with_its_last_subscriber() {
        let hub = Hub::<u32>::default();
        let (mut first, second) = (hub.subscribe(HOME()), hub.subscribe(HOME()));
        hub.publish(HOME(), Arc::new(7));
        assert_eq!(first.recv().await, HubEvent::Published(Arc::new(7)));
        drop(first);
        assert!(hub.has_subscriber(HOME()));
        drop(second);
        assert_eq!(hub.n_homes(), 0);
    }

    #[tokio::test]
    async fn a_slow_subscriber_learns_how_many_events_it_missed() {
        let hub = Hub::<usize>::default();
        let mut slow = hub.subscribe(HOME());
        for n in 0..CAPACITY + 3 {
            hub.publish(HOME(), Arc::new(n));
        }
        assert_eq!(slow.recv().await, HubEvent::Lagged(3));
        assert_eq!(slow.recv().await, HubEvent::Published(Arc::new(3)));
    }

    #[tokio::test]
    async fn a_closed_home_ends_its_subscriptions_and_can_be_subscribed_to_again() {
        let hub = Hub::<u32>::default();
        let mut old = hub.subscribe(HOME());
        hub.close(HOME());
        assert_eq!(old.recv().await, HubEvent::Closed);
        let _new = hub.subscribe(HOME());
        drop(old);
        assert!(hub.has_subscriber(HOME()));
    }
}
