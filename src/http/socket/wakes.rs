//! What of a socket was woken: one of its operations, or the rest of what it waits for. A socket has up to 200 operations,
//! and most wakes of its task are for one of them: only that one is polled.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Poll, Wake, Waker};

/// The waker of a socket's task, which serves the socket until its end.
pub(super) struct SocketTask(Waker);

/// Whether one part of a socket was woken since it was last polled.
pub(super) struct Wakes {
    state: Arc<State>,
    /// Sets `state.is_woken` and wakes the task.
    waker: Waker,
}

struct State {
    is_woken: AtomicBool,
    task: Waker,
}

impl Wake for State {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // A part that is woken already has woken the task, or is to be polled by it.
        if !self.is_woken.swap(true, Ordering::AcqRel) {
            self.task.wake_by_ref();
        }
    }
}

impl Default for SocketTask {
    /// No task.
    fn default() -> Self {
        Self(Waker::noop().clone())
    }
}

impl SocketTask {
    /// The task of the caller.
    pub(super) async fn current() -> Self {
        poll_fn(|cx| Poll::Ready(Self(cx.waker().clone()))).await
    }

    /// For a new part, which counts as woken: it has to be polled once.
    pub(super) fn wakes(&self) -> Wakes {
        let state = Arc::new(State { is_woken: AtomicBool::new(true), task: self.0.clone() });
        Wakes { waker: state.clone().into(), state }
    }
}

impl Wakes {
    /// Whether the part was woken since the last call. The caller polls it then.
    pub(super) fn take(&self) -> bool {
        self.state.is_woken.swap(false, Ordering::AcqRel)
    }

    /// Has the part polled again: after an item, a stream need not wake for the next one.
    pub(super) fn keep(&self) {
        self.state.is_woken.store(true, Ordering::Release);
    }

    /// The waker to poll the part with.
    pub(super) fn waker(&self) -> &Waker {
        &self.waker
    }
}
