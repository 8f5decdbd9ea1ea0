//! Which operations of a socket have been woken. A socket has up to 200 of them, and most wakes of its task are for one:
//! only that one is polled.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Wake, Waker};

use futures_util::task::AtomicWaker;

/// The waker of a socket's task, which all its operations share.
#[derive(Default)]
pub(super) struct SocketTask(Arc<AtomicWaker>);

/// Whether one operation was woken since it was last polled.
pub(super) struct Wakes {
    state: Arc<State>,
    /// Sets `state.is_woken` and wakes the task.
    waker: Waker,
}

struct State {
    is_woken: AtomicBool,
    task: Arc<AtomicWaker>,
}

impl Wake for State {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.is_woken.store(true, Ordering::Release);
        self.task.wake();
    }
}

impl SocketTask {
    /// Wakes the caller's task from now on. Call it before [`Wakes::take`]: otherwise a wake in between wakes no task.
    pub(super) fn register(&self, cx: &Context<'_>) {
        self.0.register(cx.waker());
    }

    /// For a new operation, which counts as woken: it has to be polled once.
    pub(super) fn wakes(&self) -> Wakes {
        let state = Arc::new(State { is_woken: AtomicBool::new(true), task: self.0.clone() });
        Wakes { waker: state.clone().into(), state }
    }
}

impl Wakes {
    /// Whether the operation was woken since the last call. The caller polls it then.
    pub(super) fn take(&self) -> bool {
        self.state.is_woken.swap(false, Ordering::AcqRel)
    }

    /// Has the operation polled again: after an item, a stream need not wake for the next one.
    pub(super) fn keep(&self) {
        self.state.is_woken.store(true, Ordering::Release);
    }

    /// The waker to poll the operation with.
    pub(super) fn waker(&self) -> &Waker {
        &self.waker
    }
}
