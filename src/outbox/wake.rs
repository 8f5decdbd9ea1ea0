//! How a dispatcher is told, by whoever committed something that it should look at.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use tokio::sync::Notify;

use crate::ids::DeviceId;

/// Devices remembered between two looks of the dispatcher; for the rest its regular sweep must do.
const MAX_HEARD: usize = 10_000;

/// Wakes one dispatcher. Cheap to clone; all clones wake the same one.
#[derive(Clone, Default)]
pub struct Wake(Arc<Inner>);

#[derive(Default)]
struct Inner {
    notify: Notify,
    heard: Mutex<HashSet<DeviceId>>,
}

impl Wake {
    /// There are new rows.
    pub fn wake(&self) {
        self.0.notify.notify_one();
    }

    /// A device came back, or speaks by other names than before.
    pub fn heard(&self, devices: impl IntoIterator<Item = DeviceId>) {
        let mut heard = self.0.heard.lock().expect("heard lock");
        for device in devices {
            if heard.len() < MAX_HEARD {
                heard.insert(device);
            }
        }
        drop(heard);
        self.wake();
    }

    /// Waits for the next call of either.
    pub(super) async fn woken(&self) {
        self.0.notify.notified().await;
    }

    /// The devices heard since the last call.
    pub(super) fn take_heard(&self) -> Vec<DeviceId> {
        std::mem::take(&mut *self.0.heard.lock().expect("heard lock")).into_iter().collect()
    }
}
