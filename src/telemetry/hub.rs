//! Live readings by home and device, and the newest cursor.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use super::Reading;
use crate::hub::{Close, Hub, HubReceiver};
use crate::ids::{DeviceId, HomeId, TelemetryId};
use crate::traces::TraceContext;

/// Publishes committed readings to the subscribers of their home and device, in the order of commits.
#[derive(Clone)]
pub struct ReadingHub {
    hub: Hub<Reading>,
    newest: Arc<AtomicI64>,
}

impl Default for ReadingHub {
    fn default() -> Self {
        Self { hub: Hub::default(), newest: Arc::new(AtomicI64::new(0)) }
    }
}

impl ReadingHub {
    pub fn publish(&self, reading: Reading) {
        self.publish_traced(reading, None);
    }

    /// As [`ReadingHub::publish`], with the trace of the message.
    pub fn publish_traced(&self, reading: Reading, trace: Option<TraceContext>) {
        self.advance(reading.id);
        let (home, device) = (reading.home, reading.device);
        self.hub.publish_traced(home, device, &Arc::new(reading), trace);
    }

    /// Whether a reading of the device has a subscriber, so that it is worth making.
    pub fn has_subscriber(&self, home: HomeId, device: DeviceId) -> bool {
        self.hub.has_subscriber(home, device)
    }

    /// Notes a cursor that was committed without being published: before this server started, or without
    /// subscribers.
    pub fn advance(&self, cursor: TelemetryId) {
        self.newest.fetch_max(cursor.get(), Ordering::AcqRel);
    }

    /// The most readings that wait for one subscriber.
    pub fn max_waiting(&self) -> usize {
        self.hub.max_waiting()
    }

    /// Homes that have a subscriber.
    pub fn n_homes(&self) -> usize {
        self.hub.n_homes()
    }

    /// The newest cursor that was committed on this server.
    pub(super) fn newest(&self) -> TelemetryId {
        TelemetryId::from_database(self.newest.load(Ordering::Acquire))
    }

    pub(super) fn subscribe(&self, home: HomeId, device: Option<DeviceId>) -> HubReceiver<Reading> {
        self.hub.subscribe(home, device)
    }
}

impl Close for ReadingHub {
    fn close_all(&self) {
        self.hub.close_all();
    }

    fn close_home(&self, home: HomeId) {
        self.hub.close_home(home);
    }

    fn close_device(&self, home: HomeId, device: DeviceId) {
        self.hub.close_device(home, device);
    }
}
