//! Per-home fan-out of committed events. Publishers never wait; memory is bounded; a reader that
//! falls behind is told so and catches up from the database. Knows no event type.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use tokio::sync::broadcast;

use crate::ids::HomeId;

/// Events a home's channel holds for its slowest reader before that reader lags.
pub const CAPACITY: usize = 256;

/// Fan-out by home. Cheap to clone; all clones are one hub.
pub struct Hub<T> {
    homes: Arc<Homes<T>>,
}

type Homes<T> = Mutex<HashMap<HomeId, broadcast::Sender<Arc<T>>>>;

/// One reader's place in a home's channel. The last one to leave takes the channel with it.
pub struct HubReceiver<T> {
    home: HomeId,
    homes: Arc<Homes<T>>,
    /// `None` only while dropping.
    receiver: Option<broadcast::Receiver<Arc<T>>>,
}

/// What [`HubReceiver::recv`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HubEvent<T> {
    /// The next event.
    Published(Arc<T>),
    /// The reader fell behind and `0` events are gone from the channel: read them from the database.
    Lagged(u64),
    /// The home is closed: nothing more will come.
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
    /// Hands an event to whoever listens to the home now.
    pub fn publish(&self, home: HomeId, event: Arc<T>) {
        let homes = self.homes.lock().expect("hub lock");
        if let Some(sender) = homes.get(&home) {
            // An error means that the last listener is just leaving.
            let _ = sender.send(event);
        }
    }

    /// Whether anybody listens to the home, so that an event is worth making.
    pub fn has_subscriber(&self, home: HomeId) -> bool {
        self.homes.lock().expect("hub lock").contains_key(&home)
    }

    /// Listens to a home from now on.
    pub fn subscribe(&self, home: HomeId) -> HubReceiver<T> {
        let mut homes = self.homes.lock().expect("hub lock");
        let sender = homes.entry(home).or_insert_with(|| broadcast::Sender::new(CAPACITY));
        HubReceiver { home, receiver: Some(sender.subscribe()), homes: self.homes.clone() }
    }

    /// Ends every stream of a home that is no more.
    pub fn close(&self, home: HomeId) {
        self.homes.lock().expect("hub lock").remove(&home);
    }

    /// The homes somebody listens to now.
    pub fn homes(&self) -> Vec<HomeId> {
        self.homes.lock().expect("hub lock").keys().copied().collect()
    }

    /// Homes somebody listens to: zero once every subscription has ended.
    pub fn n_homes(&self) -> usize {
        self.homes.lock().expect("hub lock").len()
    }
}

/// A hub of whatever events, for whoever closes a home in all of them.
pub trait HomeChannel: Send + Sync {
    /// Ends every stream of a home that is no more.
    fn close(&self, home: HomeId);
}

impl<T: Send + Sync> HomeChannel for Hub<T> {
    fn close(&self, home: HomeId) {
        Hub::close(self, home);
    }
}

impl<T> HubReceiver<T> {
    /// Waits for what comes next.
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
        // After `close` a new channel may stand under the same id: it has its own listeners.
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
    async fn the_last_listener_takes_the_channel_with_it() {
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
    async fn a_slow_listener_is_told_how_much_it_missed() {
        let hub = Hub::<usize>::default();
        let mut slow = hub.subscribe(HOME());
        for n in 0..CAPACITY + 3 {
            hub.publish(HOME(), Arc::new(n));
        }
        assert_eq!(slow.recv().await, HubEvent::Lagged(3));
        assert_eq!(slow.recv().await, HubEvent::Published(Arc::new(3)));
    }

    #[tokio::test]
    async fn a_closed_home_ends_its_listeners_and_can_be_listened_to_again() {
        let hub = Hub::<u32>::default();
        let mut old = hub.subscribe(HOME());
        hub.close(HOME());
        assert_eq!(old.recv().await, HubEvent::Closed);
        let _new = hub.subscribe(HOME());
        drop(old);
        assert!(hub.has_subscriber(HOME()));
    }
}
