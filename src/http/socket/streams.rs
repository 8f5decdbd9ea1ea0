//! The running operations of one socket, served in turn: a busy one can't starve its neighbours.
//!
//! Invariant: removing an entry is the end of its operation; nothing of it is sent afterwards.

use std::task::{Context, Poll};

use axum::extract::ws::Message;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;

use super::super::limits::SubscriptionQuota;
use super::message::MessageEncoder;
use crate::graphql::document::OperationKind;
use crate::graphql::response::GraphQLResponse;

/// One running operation.
struct Running {
    id: String,
    voice: MessageEncoder,
    answers: BoxStream<'static, GraphQLResponse>,
    /// Whether a first answer may still say that it could not be started.
    starting: bool,
    _share: Option<SubscriptionQuota>,
}

/// All of a socket.
#[derive(Default)]
pub(super) struct Streams {
    running: Vec<Running>,
    /// Whose turn it is.
    turn: usize,
}

impl Streams {
    pub(super) fn len(&self) -> usize {
        self.running.len()
    }

    pub(super) fn contains(&self, id: &str) -> bool {
        self.running.iter().any(|running| running.id == id)
    }

    /// The caller has seen to it that the id is free.
    pub(super) fn start(
        &mut self,
        id: String,
        voice: MessageEncoder,
        kind: OperationKind,
        answers: BoxStream<'static, GraphQLResponse>,
        share: Option<SubscriptionQuota>,
    ) {
        let starting = kind == OperationKind::Subscription;
        self.running.push(Running { id, voice, answers, starting, _share: share });
    }

    /// Ends an operation, if it is running.
    pub(super) fn end(&mut self, id: &str) -> bool {
        let at = self.running.iter().position(|running| running.id == id);
        at.map(|at| self.remove(at)).is_some()
    }

    fn remove(&mut self, at: usize) {
        self.running.remove(at);
        if at < self.turn {
            self.turn -= 1;
        }
    }

    /// The next message of whoever is ready and next in turn; pending while there is none.
    pub(super) fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<Message> {
        let n = self.running.len();
        for step in 0..n {
            let at = (self.turn + step) % n;
            let running = &mut self.running[at];
            match running.answers.poll_next_unpin(cx) {
                Poll::Pending => {}
                Poll::Ready(Some(answer)) => {
                    self.turn = at + 1;
                    let refused = answer.is_request_error()
                        || (std::mem::take(&mut running.starting) && answer.is_failed_start());
                    if refused {
                        // An error is the last word of its operation: no complete after it.
                        let message = running.voice.error(&answer);
                        self.remove(at);
                        return Poll::Ready(message);
                    }
                    return Poll::Ready(running.voice.next(&answer));
                }
                Poll::Ready(None) => {
                    let message = running.voice.complete();
                    self.remove(at);
                    return Poll::Ready(message);
                }
            }
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use futures_util::{FutureExt, stream};

    use super::super::message::Protocol;
    use super::*;
    use crate::graphql::request_error::RequestError;

    fn start(streams: &mut Streams, id: &str, answers: BoxStream<'static, GraphQLResponse>) {
        streams.start(
            id.to_owned(),
            MessageEncoder::new(Protocol::Transport, id),
            OperationKind::Subscription,
            answers,
            None,
        );
    }

    fn next(streams: &mut Streams) -> Option<String> {
        poll_fn(|cx| streams.poll_message(cx)).now_or_never().map(|message| message.into_text().unwrap().to_string())
    }

    fn answer() -> GraphQLResponse {
        GraphQLResponse::for_test(async_graphql::value!({"n": 1}))
    }

    #[test]
    fn busy_operations_take_turns_and_end_when_removed() {
        let mut streams = Streams::default();
        for id in ["a", "b", "c"] {
            start(&mut streams, id, stream::repeat_with(answer).boxed());
        }
        start(&mut streams, "idle", stream::pending().boxed());
        let heard: Vec<String> = (0..6).map(|_| next(&mut streams).unwrap()[7..8].to_owned()).collect();
        assert_eq!(heard.concat(), "abcabc");
        assert!(streams.end("a") && !streams.end("a") && streams.end("c"));
        let heard: Vec<String> = (0..3).map(|_| next(&mut streams).unwrap()[7..8].to_owned()).collect();
        assert_eq!(heard.concat(), "bbb");
        assert!(streams.end("b"));
        assert_eq!(next(&mut streams), None);
        assert_eq!(streams.len(), 1);
    }

    #[test]
    fn an_operation_ends_with_complete_or_with_error_never_with_both() {
        let mut streams = Streams::default();
        start(&mut streams, "a", stream::iter([answer()]).boxed());
        assert_eq!(next(&mut streams).unwrap(), r#"{"id":"a","type":"next","payload":{"data":{"n":1}}}"#);
        assert_eq!(next(&mut streams).unwrap(), r#"{"id":"a","type":"complete"}"#);
        start(&mut streams, "a", stream::iter([RequestError::new("NOT_FOUND", "no").into(), answer()]).boxed());
        assert_eq!(
            next(&mut streams).unwrap(),
            r#"{"id":"a","type":"error","payload":[{"message":"no","extensions":{"code":"NOT_FOUND"}}]}"#
        );
        assert_eq!(next(&mut streams), None);
    }
}
