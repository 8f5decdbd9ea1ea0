//! How a dispatcher is told, by whoever committed something that it should look at.

use std::sync::Arc;

use tokio::sync::Notify;

/// Wakes one dispatcher. Cheap to clone; all clones wake the same one.
#[derive(Clone, Default)]
pub struct Wake(Arc<Notify>);

impl Wake {
    /// There are new rows, or a device came back or speaks by other names than before.
    pub fn wake(&self) {
        self.0.notify_one();
    }

    /// Waits for the next call.
    pub(super) async fn woken(&self) {
        self.0.notified().await;
    }
}
