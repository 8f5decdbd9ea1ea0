//! Which operations of a socket have something to do. A socket has up to 200 of them, and its task is woken for one: the
//! others are not polled.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Wake, Waker};

use futures_util::task::AtomicWaker;

/// The task of a socket.
#[derive(Default)]
pub(super) struct SocketTask(Arc<AtomicWaker>);

/// Whether one operation has to be polled.
pub(super) struct Wakes {
    state: Arc<State>,
    /// Of `state`.
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
    /// Wakes the caller's task from now on. Before [`Wakes::take`]: a wake after that finds the task.
    pub(super) fn register(&self, cx: &Context<'_>) {
        self.0.register(cx.waker());
    }

    /// For an operation that was never polled.
    pub(super) fn wakes(&self) -> Wakes {
        let state = Arc::new(State { is_woken: AtomicBool::new(true), task: self.0.clone() });
        Wakes { waker: state.clone().into(), state }
    }
}

impl Wakes {
    /// Whether the operation was woken since the last call.
    pub(super) fn take(&self) -> bool {
        self.state.is_woken.swap(false, Ordering::AcqRel)
    }

    /// The operation may have more to do at once.
    pub(super) fn keep(&self) {
        self.state.is_woken.store(true, Ordering::Release);
    }

    /// Polls the operation with it.
    pub(super) fn waker(&self) -> &Waker {
        &self.waker
    }
}
