//! Live readings by home, and the newest cursor.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use super::Reading;
use crate::hub::{HomeChannel, Hub, HubReceiver};
use crate::ids::{HomeId, TelemetryId};

/// Publishes committed readings to the subscribers of their home, in the order of commits.
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
        self.advance(reading.id);
        let home = reading.home;
        self.hub.publish(home, Arc::new(reading));
    }

    /// Whether the home has a subscriber, so that a reading is worth making.
    pub fn has_subscriber(&self, home: HomeId) -> bool {
        self.hub.has_subscriber(home)
    }

    /// Notes a cursor that was committed without being published: before this server started, or in a home
    /// without subscribers.
    pub fn advance(&self, cursor: TelemetryId) {
        self.newest.fetch_max(cursor.get(), Ordering::AcqRel);
    }

    /// Homes that have a subscriber.
    pub fn n_homes(&self) -> usize {
        self.hub.n_homes()
    }

    /// The newest cursor that was committed on this server.
    pub(super) fn newest(&self) -> TelemetryId {
        TelemetryId::from_database(self.newest.load(Ordering::Acquire))
    }

    pub(super) fn subscribe(&self, home: HomeId) -> HubReceiver<Reading> {
        self.hub.subscribe(home)
    }
}

impl HomeChannel for ReadingHub {
    fn close(&self, home: HomeId) {
        self.hub.close(home);
    }
}
