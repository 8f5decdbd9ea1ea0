//! Fan-out of committed events by home and by device. Publishers never wait, and memory is bounded: a subscriber that
//! falls behind loses the oldest events, learns since when, and reads them from the database ([`crate::follow`]).
//!
//! A subscriber of one device has that device's channel, so the other events of the home don't wake it.

mod channel;
mod renderings;

use std::future::poll_fn;
use std::ops::Deref;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use crate::ids::{DeviceId, HomeId, IdMap};
use crate::traces::TraceContext;
use channel::{Received, Receiver, Sender};
pub use renderings::{LeadingPart, Part, Published, RenderingKey, Renderings};

/// Events a home's channel holds for its slowest subscriber before that subscriber lags.
pub const CAPACITY: usize = 256;
/// The same for a device's channel, of which there may be one for each device.
pub const DEVICE_CAPACITY: usize = 64;

/// A broadcast channel for each home and each device that has a subscriber. Cheap to clone; all clones are one hub.
pub struct Hub<T> {
    homes: Arc<Homes<T>>,
}

type Homes<T> = Mutex<IdMap<HomeId, HomeChannels<T>>>;

/// The channels of one home: at least one.
struct HomeChannels<T> {
    whole: Option<Channel<T>>,
    devices: IdMap<DeviceId, Channel<T>>,
}

struct Channel<T> {
    sender: Sender<Event<T>>,
    first_unread: FirstUnread<T>,
}

/// The first event published since all subscribers of a channel had received everything: none of them missed an
/// earlier one.
type FirstUnread<T> = Arc<Mutex<Option<Arc<T>>>>;

/// One subscriber of a channel. The channel is removed with its last subscriber.
pub struct HubReceiver<T> {
    home: HomeId,
    device: Option<DeviceId>,
    homes: Arc<Homes<T>>,
    /// `None` only while dropping.
    receiver: Option<Receiver<Event<T>>>,
    first_unread: FirstUnread<T>,
}

/// A published event, with what its subscribers share.
#[derive(Debug)]
pub struct Event<T> {
    pub value: Arc<T>,
    pub renderings: Arc<Renderings>,
}

impl<T> Clone for Event<T> {
    fn clone(&self) -> Self {
        Self { value: self.value.clone(), renderings: self.renderings.clone() }
    }
}

impl<T> Deref for Event<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: PartialEq> PartialEq for Event<T> {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

/// The result of [`HubReceiver::try_recv`].
#[derive(Debug, Clone, PartialEq)]
pub enum HubEvent<T> {
    Published(Event<T>),
    /// The subscriber fell behind, and the channel has dropped events. It has missed none before this one.
    Lagged(Arc<T>),
    /// The home or the device is closed: no event follows.
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

impl<T> Default for HomeChannels<T> {
    fn default() -> Self {
        Self { whole: None, devices: IdMap::default() }
    }
}

impl<T> Channel<T> {
    fn new(capacity: usize) -> Self {
        Self { sender: Sender::new(capacity), first_unread: Arc::default() }
    }

    fn publish(&self, event: Event<T>) {
        if self.sender.len() == 0 {
            *self.first_unread.lock().expect("channel lock") = Some(event.value.clone());
        }
        self.sender.send(event);
    }

    fn is_unused(&self) -> bool {
        self.sender.n_subscribers() == 0
    }
}

impl<T> HomeChannels<T> {
    /// The channel of the whole home, or of one device, which is created where it is missing.
    fn open(&mut self, device: Option<DeviceId>) -> &Channel<T> {
        match device {
            None => self.whole.get_or_insert_with(|| Channel::new(CAPACITY)),
            Some(device) => self.devices.entry(device).or_insert_with(|| Channel::new(DEVICE_CAPACITY)),
        }
    }

    /// Removes a channel without subscribers. After it was closed, there may be a new one with subscribers.
    fn remove_unused(&mut self, device: Option<DeviceId>) {
        match device {
            None => drop(self.whole.take_if(|channel| channel.is_unused())),
            Some(device) if self.devices.get(&device).is_some_and(Channel::is_unused) => {
                self.devices.remove(&device);
            }
            Some(_) => {}
        }
    }

    fn is_empty(&self) -> bool {
        self.whole.is_none() && self.devices.is_empty()
    }
}

impl<T> Hub<T> {
    /// Sends an event of a device to the present subscribers of the home and of the device.
    pub fn publish(&self, home: HomeId, device: DeviceId, event: &Arc<T>) {
        self.publish_traced(home, device, event, None);
    }

    /// As [`Hub::publish`], with the trace of what caused the event.
    pub fn publish_traced(&self, home: HomeId, device: DeviceId, event: &Arc<T>, trace: Option<TraceContext>) {
        let homes = self.homes.lock().expect("hub lock");
        let Some(channels) = homes.get(&home) else { return };
        let event = Event { value: event.clone(), renderings: Arc::new(Renderings::new(trace)) };
        for channel in channels.whole.iter().chain(channels.devices.get(&device)) {
            channel.publish(event.clone());
        }
    }

    /// Whether an event of the device has a subscriber, so that it is worth making.
    pub fn has_subscriber(&self, home: HomeId, device: DeviceId) -> bool {
        let homes = self.homes.lock().expect("hub lock");
        homes.get(&home).is_some_and(|channels| channels.whole.is_some() || channels.devices.contains_key(&device))
    }

    /// Subscribes to the events of a home, or of one of its devices, from now on.
    pub fn subscribe(&self, home: HomeId, device: Option<DeviceId>) -> HubReceiver<T> {
        let mut homes = self.homes.lock().expect("hub lock");
        let channel = homes.entry(home).or_default().open(device);
        let (receiver, first_unread) = (Some(channel.sender.subscribe()), channel.first_unread.clone());
        HubReceiver { home, device, homes: self.homes.clone(), receiver, first_unread }
    }

    /// The homes that have a subscriber.
    pub fn homes(&self) -> Vec<HomeId> {
        self.homes.lock().expect("hub lock").keys().copied().collect()
    }

    /// The most events that wait in one channel for its slowest subscriber.
    pub fn max_waiting(&self) -> usize {
        let homes = self.homes.lock().expect("hub lock");
        let channels = homes.values().flat_map(|home| home.whole.iter().chain(home.devices.values()));
        channels.map(|channel| channel.sender.len()).max().unwrap_or_default()
    }

    /// The number of homes that have a subscriber: zero once every subscription has ended.
    pub fn n_homes(&self) -> usize {
        self.homes.lock().expect("hub lock").len()
    }
}

/// A hub of any event type, for code that closes a home or a device in all of them, or all.
pub trait Close: Send + Sync {
    /// Ends every subscription.
    fn close_all(&self);
    /// Ends every subscription of a deleted home and of its devices.
    fn close_home(&self, home: HomeId);
    /// Ends every subscription of a deleted device.
    fn close_device(&self, home: HomeId, device: DeviceId);
}

impl<T: Send + Sync> Close for Hub<T> {
    fn close_all(&self) {
        self.homes.lock().expect("hub lock").clear();
    }

    fn close_home(&self, home: HomeId) {
        self.homes.lock().expect("hub lock").remove(&home);
    }

    fn close_device(&self, home: HomeId, device: DeviceId) {
        let mut homes = self.homes.lock().expect("hub lock");
        let Some(channels) = homes.get_mut(&home) else { return };
        channels.devices.remove(&device);
        if channels.is_empty() {
            homes.remove(&home);
        }
    }
}

impl<T> HubReceiver<T> {
    /// Waits for the next event.
    pub async fn recv(&mut self) -> HubEvent<T> {
        loop {
            poll_fn(|cx| self.poll_ready(cx)).await;
            if let Some(event) = self.try_recv() {
                return event;
            }
        }
    }

    /// Waits until there is something to receive.
    pub fn poll_ready(&mut self, cx: &Context<'_>) -> Poll<()> {
        self.receiver.as_mut().map_or(Poll::Ready(()), |receiver| receiver.poll_ready(cx))
    }

    /// The next event; `None` if there is none yet.
    pub fn try_recv(&mut self) -> Option<HubEvent<T>> {
        let Some(receiver) = &mut self.receiver else { return Some(HubEvent::Closed) };
        Some(match receiver.try_recv()? {
            Received::Event(event) => HubEvent::Published(event),
            Received::Lagged => {
                // The channel has events that this subscriber did not receive: what was first unread stays.
                let first = self.first_unread.lock().expect("channel lock").clone();
                HubEvent::Lagged(first.expect("an event was published"))
            }
            Received::Closed => HubEvent::Closed,
        })
    }
}

impl<T> Drop for HubReceiver<T> {
    fn drop(&mut self) {
        let mut homes = self.homes.lock().expect("hub lock");
        self.receiver = None;
        let Some(channels) = homes.get_mut(&self.home) else { return };
        channels.remove_unused(self.device);
        if channels.is_empty() {
            homes.remove(&self.home);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    const HOME: fn() -> HomeId = || HomeId::from_database(1);

    fn published<T>(value: T) -> HubEvent<T> {
        HubEvent::Published(Event { value: Arc::new(value), renderings: Arc::default() })
    }

    fn device(n: i64) -> DeviceId {
        DeviceId::from_database(n)
    }

    #[tokio::test]
    async fn a_channel_is_removed_with_its_last_subscriber() {
        for of in [None, Some(device(1))] {
            let hub = Hub::<u32>::default();
            let (mut first, second) = (hub.subscribe(HOME(), of), hub.subscribe(HOME(), of));
            hub.publish(HOME(), device(1), &Arc::new(7));
            assert_eq!(first.recv().await, published(7));
            drop(first);
            assert!(hub.has_subscriber(HOME(), device(1)));
            assert_eq!(hub.has_subscriber(HOME(), device(2)), of.is_none());
            drop(second);
            assert_eq!(hub.n_homes(), 0);
        }
    }

    #[tokio::test]
    async fn a_subscriber_of_a_device_is_woken_for_its_events_only() {
        const N: u32 = 5_000;
        let hub = Hub::<u32>::default();
        let mut home = hub.subscribe(HOME(), None);
        let mut one = hub.subscribe(HOME(), Some(device(1)));
        let mut woken = n_wakes(&mut one, || {
            for n in 0..N {
                hub.publish(HOME(), device(2), &Arc::new(n));
            }
        });
        assert_eq!((woken, one.recv().now_or_never()), (0, None));
        woken = n_wakes(&mut one, || hub.publish(HOME(), device(1), &Arc::new(N)));
        assert_eq!((woken, one.recv().now_or_never()), (1, Some(published(N))));
        assert!(matches!(home.recv().await, HubEvent::Lagged(first) if *first == 0));
    }

    /// Wake-ups of a waiting subscriber while `run` runs.
    fn n_wakes(receiver: &mut HubReceiver<u32>, run: impl FnOnce()) -> usize {
        use std::sync::atomic::{AtomicUsize, Ordering};
        use std::task::{Context, Wake, Waker};
        struct Count(AtomicUsize);
        impl Wake for Count {
            fn wake(self: Arc<Self>) {
                self.0.fetch_add(1, Ordering::Relaxed);
            }
        }
        let count = Arc::new(Count(AtomicUsize::new(0)));
        let waker = Waker::from(count.clone());
        let mut waiting = std::pin::pin!(receiver.recv());
        assert!(waiting.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        run();
        count.0.load(Ordering::Relaxed)
    }

    #[tokio::test]
    async fn a_home_and_its_devices_receive_events_in_one_order() {
        let hub = Hub::<i64>::default();
        let mut home = hub.subscribe(HOME(), None);
        let mut one = hub.subscribe(HOME(), Some(device(1)));
        for n in 0..6 {
            hub.publish(HOME(), device(n % 2), &Arc::new(n));
        }
        for n in 0..6 {
            assert_eq!(home.recv().await, published(n));
        }
        for n in [1, 3, 5] {
            assert_eq!(one.recv().await, published(n));
        }
    }

    #[tokio::test]
    async fn a_slow_subscriber_learns_since_when_it_missed_events() {
        let hub = Hub::<usize>::default();
        for (of, capacity) in [(None, CAPACITY), (Some(device(1)), DEVICE_CAPACITY)] {
            let mut slow = hub.subscribe(HOME(), of);
            let publish = |n| hub.publish(HOME(), device(1), &Arc::new(n));
            // It received these, so it can't have missed them.
            for n in 0..capacity {
                publish(n);
                assert_eq!(slow.recv().await, published(n));
            }
            (1_000..1_003 + capacity).for_each(publish);
            assert_eq!(slow.recv().await, HubEvent::Lagged(Arc::new(1_000)));
            assert_eq!(slow.recv().await, published(1_003));
        }
    }

    #[tokio::test]
    async fn a_closed_home_ends_all_its_subscriptions_and_a_closed_device_its_own() {
        let hub = Hub::<u32>::default();
        let (mut home, mut one) = (hub.subscribe(HOME(), None), hub.subscribe(HOME(), Some(device(1))));
        let mut two = hub.subscribe(HOME(), Some(device(2)));
        hub.close_device(HOME(), device(1));
        assert_eq!((one.recv().await, home.recv().now_or_never()), (HubEvent::Closed, None));
        assert_eq!(two.recv().now_or_never(), None);
        hub.close_home(HOME());
        assert_eq!((home.recv().await, two.recv().await), (HubEvent::Closed, HubEvent::Closed));
        let mut other = hub.subscribe(HOME(), None);
        hub.close_all();
        assert_eq!((other.recv().await, hub.n_homes()), (HubEvent::Closed, 0));
        // A closed one can be subscribed to again.
        let _new = hub.subscribe(HOME(), Some(device(1)));
        drop((home, one, two));
        assert!(hub.has_subscriber(HOME(), device(1)));
        hub.close_device(HOME(), device(1));
        assert_eq!(hub.n_homes(), 0);
    }
}
