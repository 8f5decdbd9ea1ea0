//! The running operations of one socket, served round-robin: a busy one can't starve the others.
//!
//! Invariant: removing an operation ends it, and none of its messages is sent afterwards.

use std::task::{Context, Poll};

use axum::extract::ws::Message;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;

use super::message::MessageEncoder;
use super::wakes::{SocketTask, Wakes};
use crate::graphql::response::GraphQLResponse;
use crate::http::limits::SubscriptionQuota;
use crate::http::request_log::{Logged, StreamLog};
use crate::hub::Published;
use crate::request_memory::Reservation;

/// A message to the client, and the memory that is reserved for it until it is written.
pub(super) struct Outgoing {
    pub(super) message: Message,
    pub(super) memory: Reservation,
    /// The publication of the event in it.
    pub(super) published: Option<Published>,
}

impl From<Message> for Outgoing {
    fn from(message: Message) -> Self {
        Self { message, memory: Reservation::default(), published: None }
    }
}

/// One running operation.
pub(super) struct Operation {
    pub(super) id: String,
    pub(super) encoder: MessageEncoder,
    pub(super) responses: BoxStream<'static, GraphQLResponse>,
    /// The first response of a subscription may still say that it could not be started.
    pub(super) is_starting: bool,
    /// What is logged with the first response.
    pub(super) logged: Option<Logged>,
    pub(super) _quota: Option<SubscriptionQuota>,
}

struct Running {
    operation: Operation,
    wakes: Wakes,
}

/// All operations of a socket.
#[derive(Default)]
pub(super) struct Operations {
    running: Vec<Running>,
    /// The index to poll first.
    next: usize,
    task: SocketTask,
    log: StreamLog,
}

impl Operations {
    /// None yet; they wake this task, and their first responses are logged.
    pub(super) fn new(task: SocketTask, log: StreamLog) -> Self {
        Self { task, log, ..Self::default() }
    }

    pub(super) fn len(&self) -> usize {
        self.running.len()
    }

    pub(super) fn contains(&self, id: &str) -> bool {
        self.running.iter().any(|running| running.operation.id == id)
    }

    /// The caller has checked that the id is free.
    pub(super) fn start(&mut self, operation: Operation) {
        let wakes = self.task.wakes();
        self.running.push(Running { operation, wakes });
    }

    /// Ends an operation; false if it is not running.
    pub(super) fn end(&mut self, id: &str) -> bool {
        let at = self.running.iter().position(|running| running.operation.id == id);
        at.map(|at| self.remove(at)).is_some()
    }

    fn remove(&mut self, at: usize) {
        self.running.remove(at);
        if at < self.next {
            self.next -= 1;
        }
    }

    /// The next message of the next ready operation. Otherwise the socket's task is woken for it.
    pub(super) fn poll_message(&mut self) -> Poll<Outgoing> {
        let n = self.running.len();
        for step in 0..n {
            let at = (self.next + step) % n;
            let Running { operation, wakes } = &mut self.running[at];
            if !wakes.take() {
                continue;
            }
            match operation.responses.poll_next_unpin(&mut Context::from_waker(wakes.waker())) {
                Poll::Pending => {}
                Poll::Ready(Some(response)) => {
                    wakes.keep();
                    if let Some(logged) = operation.logged.take() {
                        self.log.operation(&logged.executed(&response));
                    }
                    self.next = at + 1;
                    let is_failed = response.is_request_error()
                        || (std::mem::take(&mut operation.is_starting) && response.is_failed_start());
                    if is_failed {
                        // An error ends its operation: no `complete` follows.
                        let message = operation.encoder.error(&response);
                        self.remove(at);
                        return Poll::Ready(message.into());
                    }
                    let message = operation.encoder.next(&response);
                    let published = response.published();
                    return Poll::Ready(Outgoing { message, memory: response.into_memory(), published });
                }
                Poll::Ready(None) => {
                    let message = operation.encoder.complete();
                    self.remove(at);
                    return Poll::Ready(message.into());
                }
            }
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use futures_util::stream;

    use super::*;
    use crate::graphql::request_error::RequestError;
    use crate::http::socket::message::Protocol;

    fn start(operations: &mut Operations, id: &str, responses: BoxStream<'static, GraphQLResponse>) {
        let encoder = MessageEncoder::new(Protocol::Transport, id);
        operations.start(Operation {
            id: id.to_owned(),
            encoder,
            responses,
            is_starting: true,
            logged: None,
            _quota: None,
        });
    }

    fn next(operations: &mut Operations) -> Option<String> {
        match operations.poll_message() {
            Poll::Ready(sent) => Some(sent.message.into_text().unwrap().to_string()),
            Poll::Pending => None,
        }
    }

    fn response() -> GraphQLResponse {
        GraphQLResponse::for_test(async_graphql::value!({"n": 1}))
    }

    #[test]
    fn busy_operations_take_turns_and_end_when_removed() {
        let mut operations = Operations::default();
        for id in ["a", "b", "c"] {
            start(&mut operations, id, stream::repeat_with(response).boxed());
        }
        start(&mut operations, "idle", stream::pending().boxed());
        let ids: Vec<String> = (0..6).map(|_| next(&mut operations).unwrap()[7..8].to_owned()).collect();
        assert_eq!(ids.concat(), "abcabc");
        assert!(operations.end("a") && !operations.end("a") && operations.end("c"));
        let ids: Vec<String> = (0..3).map(|_| next(&mut operations).unwrap()[7..8].to_owned()).collect();
        assert_eq!(ids.concat(), "bbb");
        assert!(operations.end("b"));
        assert_eq!(next(&mut operations), None);
        assert_eq!(operations.len(), 1);
    }

    #[test]
    fn only_operations_that_were_woken_are_polled() {
        use std::sync::Arc;
        use std::sync::atomic::{AtomicUsize, Ordering};

        use futures_util::task::AtomicWaker;

        let (polls, waiting) = (Arc::new(AtomicUsize::new(0)), [Arc::new(AtomicWaker::new()), Arc::default()]);
        let mut operations = Operations::default();
        for (n, waker) in waiting.iter().enumerate() {
            let (polls, waker) = (polls.clone(), waker.clone());
            let idle = stream::poll_fn(move |cx| {
                polls.fetch_add(1, Ordering::Relaxed);
                waker.register(cx.waker());
                Poll::Pending
            });
            start(&mut operations, &n.to_string(), idle.boxed());
        }
        let n_polls = |operations: &mut Operations| {
            assert_eq!(next(operations), None);
            polls.swap(0, Ordering::Relaxed)
        };
        assert_eq!((n_polls(&mut operations), n_polls(&mut operations)), (2, 0));
        waiting[1].wake();
        assert_eq!((n_polls(&mut operations), n_polls(&mut operations)), (1, 0));
        start(&mut operations, "new", stream::pending().boxed());
        assert_eq!(n_polls(&mut operations), 0);
    }

    #[test]
    fn an_operation_ends_with_complete_or_with_error_never_with_both() {
        let mut operations = Operations::default();
        start(&mut operations, "a", stream::iter([response()]).boxed());
        assert_eq!(next(&mut operations).unwrap(), r#"{"id":"a","type":"next","payload":{"data":{"n":1}}}"#);
        assert_eq!(next(&mut operations).unwrap(), r#"{"id":"a","type":"complete"}"#);
        start(&mut operations, "a", stream::iter([RequestError::new("NOT_FOUND", "no").into(), response()]).boxed());
        assert_eq!(
            next(&mut operations).unwrap(),
            r#"{"id":"a","type":"error","payload":[{"message":"no","extensions":{"code":"NOT_FOUND"}}]}"#
        );
        assert_eq!(next(&mut operations), None);
    }
}
