//! A fact that becomes true once and stays true: the schema is migrated, the queue is drained, a token is revoked.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Poll, Waker};

use tokio::sync::Notify;

/// Starts open; once set, it stays set. Clones are one latch.
///
/// A `CancellationToken` asks a task to stop. A latch reports that something has happened. It is a type of its own, so
/// that a function that takes both can't confuse them. Thousands of streams ask one latch at each event, so asking takes
/// no lock and writes nothing.
#[derive(Debug, Clone, Default)]
pub struct Latch(Arc<State>);

#[derive(Debug, Default)]
struct State {
    is_set: AtomicBool,
    waiting: Notify,
}

impl Latch {
    /// Wakes every task that waits for it. A second call does nothing.
    pub fn set(&self) {
        self.0.is_set.store(true, Ordering::Release);
        self.0.waiting.notify_waiters();
    }

    pub fn is_set(&self) -> bool {
        self.0.is_set.load(Ordering::Acquire)
    }

    /// Returns at once if the latch is set already.
    pub async fn wait(&self) {
        // A wait that was created before the latch is set is notified, also if nothing has polled it yet.
        let mut waiting = pin!(self.0.waiting.notified());
        let mut registered: Option<Waker> = None;
        poll_fn(|cx| {
            if self.is_set() {
                return Poll::Ready(());
            }
            // A second poll by the same task would change nothing.
            if registered.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
                return Poll::Pending;
            }
            registered = Some(cx.waker().clone());
            waiting.as_mut().poll(cx)
        })
        .await;
    }

    /// Sets the latch when the guard is dropped, also by a panic.
    pub fn set_on_drop(&self) -> SetOnDrop {
        SetOnDrop(self.clone())
    }
}

#[must_use = "the latch is set when the guard is dropped"]
pub struct SetOnDrop(Latch);

impl Drop for SetOnDrop {
    fn drop(&mut self) {
        self.0.set();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn a_latch_wakes_all_that_wait_and_stays_set() {
        let latch = Latch::default();
        let other = latch.clone();
        let mut both = std::pin::pin!(futures_util::future::join(latch.wait(), other.wait()));
        assert!(both.as_mut().now_or_never().is_none() && !latch.is_set());
        let guard = other.set_on_drop();
        assert!(both.as_mut().now_or_never().is_none());
        drop(guard);
        assert!(both.now_or_never().is_some() && latch.is_set());
        latch.set();
        assert!(latch.wait().now_or_never().is_some());
    }
}
