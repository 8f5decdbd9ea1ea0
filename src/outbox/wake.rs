//! How a commit of this server wakes a dispatcher.

use std::sync::Arc;

use tokio::sync::Notify;

/// Wakes one dispatcher. Cheap to clone; all clones wake the same one.
#[derive(Clone, Default)]
pub struct Wake(Arc<Notify>);

impl Wake {
    /// Call after a commit that added due rows, or after a device came back or changed how it spells its topics.
    pub fn wake(&self) {
        self.0.notify_one();
    }

    /// Waits for the next [`wake`](Self::wake).
    pub(super) async fn woken(&self) {
        self.0.notified().await;
    }
}
