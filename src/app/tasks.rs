//! Groups of tasks that are cancelled and awaited together.

use std::time::Duration;

use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::latch::Latch;

/// The tasks that stop together. Clones are one group.
#[derive(Clone, Default)]
pub(super) struct Tasks {
    pub(super) tracker: TaskTracker,
    /// Cancels the tasks.
    pub(super) stop: CancellationToken,
    /// Set when a critical task of any group ends.
    pub(super) ended: Latch,
}

impl Tasks {
    /// Another group, whose critical tasks end the same server.
    pub(super) fn group(&self) -> Self {
        Self { ended: self.ended.clone(), ..Self::default() }
    }

    /// Runs a task without which the server is of no use: its end is the server's end.
    pub(super) fn critical(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let guard = Critical { name, stop: self.stop.clone(), ended: self.ended.clone() };
        self.tracker.spawn(async move {
            let _guard = guard;
            task.await;
        });
    }

    /// Runs a task that may end early.
    pub(super) fn spawn(&self, task: impl Future<Output: Send> + Send + 'static) {
        self.tracker.spawn(async move { drop(task.await) });
    }

    /// Cancels the tasks and waits for them. Whether all of them ended within the limit.
    pub(super) async fn stop(&self, limit: Duration) -> bool {
        self.stop.cancel();
        self.tracker.close();
        timeout(limit, self.tracker.wait()).await.is_ok()
    }
}

/// Ends the server with its task, also when the task panics.
struct Critical {
    name: &'static str,
    stop: CancellationToken,
    ended: Latch,
}

impl Drop for Critical {
    fn drop(&mut self) {
        if !self.stop.is_cancelled() {
            tracing::error!("{} has ended, and the server ends with it", self.name);
        }
        self.ended.set();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_critical_task_that_ends_ends_the_server() {
        let tasks = Tasks::default();
        let group = tasks.group();
        tasks.critical("the first", std::future::pending());
        assert!(!tasks.ended.is_set());
        group.critical("the second", async {});
        tasks.ended.wait().await;
        assert!(!tasks.stop.is_cancelled());
    }

    #[tokio::test]
    async fn a_stop_waits_for_every_task_of_the_group() {
        let tasks = Tasks::default();
        let stop = tasks.stop.clone();
        tasks.critical("one that stops", async move { stop.cancelled().await });
        assert!(tasks.stop(Duration::from_secs(5)).await);
        let tasks = Tasks::default();
        tasks.critical("one that does not stop", std::future::pending());
        assert!(!tasks.stop(Duration::from_millis(1)).await);
    }
}
