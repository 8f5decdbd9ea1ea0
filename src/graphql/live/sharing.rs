//! Equal operations share one execution and one serialized response of each event.
//!
//! The library would execute a subscription's selection for every subscriber. Here the resolver hands the subscription's
//! events over to this driver. For each event, the driver asks the library for a response only if no equal subscriber
//! has made it. What equal means is in the [`RenderingKey`]: the normalised operation with the values of its variables,
//! the principal, and the rights in the home.

use std::fmt::Debug;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::{BoxStream, Stream, poll_fn};
use futures_util::task::AtomicWaker;
use futures_util::{FutureExt, StreamExt};
use prometheus_client::metrics::counter::Counter;
use sha2::{Digest, Sha256};

use super::super::Viewer;
use super::super::limits::budget::Budget;
use super::super::response::GraphQLResponse;
use crate::db::spawn_and_join;
use crate::homes::Access;
use crate::hub::{LeadingPart, Part, RenderingKey, Renderings};
use crate::metrics::Metrics;

/// The events of a subscription, without their content: what the subscribers of each share. The content waits in the
/// resolver's stream.
type Events = BoxStream<'static, Option<Arc<Renderings>>>;

/// What a resolver hands over.
struct HandedOver {
    events: Events,
    /// The rights in the home.
    access: Access,
    /// Wakes the resolver's stream: the library polls a stream only after it was woken.
    wake: Arc<AtomicWaker>,
    rendered: Counter,
    shared: Counter,
}

/// Takes the events of a subscription from its resolver: request data of a subscription that shares its responses.
#[derive(Clone, Default)]
pub(in crate::graphql) struct Handover(Arc<Mutex<Option<HandedOver>>>);

impl Handover {
    /// Hands the events over. Returns the resolver's stream: it has the event that the driver wants a response to.
    pub(super) fn give<T: Send + 'static>(
        &self,
        access: Access,
        metrics: &Metrics,
        events: impl Stream<Item = (T, Option<Arc<Renderings>>)> + Send + 'static,
    ) -> BoxStream<'static, T> {
        let waiting = Arc::new(Mutex::new(None));
        let content = waiting.clone();
        let events = events.map(move |(event, renderings)| {
            *waiting.lock().expect("event lock") = Some(event);
            renderings
        });
        let (rendered, shared) =
            (metrics.subscription_responses_rendered.clone(), metrics.subscription_responses_shared.clone());
        let wake = Arc::<AtomicWaker>::default();
        let woken = wake.clone();
        let handed_over = HandedOver { events: events.boxed(), access, wake, rendered, shared };
        *self.0.lock().expect("handover lock") = Some(handed_over);
        poll_fn(move |cx| {
            woken.register(cx.waker());
            content.lock().expect("event lock").take().map_or(Poll::Pending, |event| Poll::Ready(Some(event)))
        })
        .boxed()
    }

    fn take(&self) -> Option<HandedOver> {
        self.0.lock().expect("handover lock").take()
    }
}

/// What makes two operations equal, beside the rights. `operation` is normalised and has its variables.
pub(in crate::graphql) fn key(operation: &impl Debug, viewer: &Viewer) -> RenderingKey {
    let principal = viewer.0.as_ref().map(|principal| (principal.user, principal.actor));
    Sha256::digest(format!("{principal:?}\n{operation:?}")).into()
}

/// The responses of a subscription. `responses` are the library's, executed with `handover` among the request data.
pub(in crate::graphql) fn share(
    responses: BoxStream<'static, GraphQLResponse>,
    handover: Handover,
    key: RenderingKey,
    budget: Budget,
) -> impl Stream<Item = GraphQLResponse> + Send + 'static {
    Shared { state: State::Working(start(responses, handover, key, budget)) }
}

/// An equal operation has made the response to most events already: then one poll of the events is all there is to do.
struct Shared {
    state: State,
}

enum State {
    Running(Running),
    /// The subscription starts, or its response to an event is not made yet.
    Working(BoxFuture<'static, Worked>),
    Ended,
}

/// The response, if there is one, and the state after it.
type Worked = (Option<GraphQLResponse>, State);

struct Running {
    handed_over: HandedOver,
    /// The library's, one for each event that the resolver's stream yields.
    responses: BoxStream<'static, GraphQLResponse>,
    key: RenderingKey,
    budget: Budget,
    is_stopped: bool,
}

impl Stream for Shared {
    type Item = GraphQLResponse;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<GraphQLResponse>> {
        loop {
            match &mut self.state {
                State::Running(running) => {
                    let event = ready!(running.handed_over.events.poll_next_unpin(cx));
                    if let Some(response) = event.as_ref().and_then(|event| running.rendered(event.as_ref()?)) {
                        return Poll::Ready(Some(response));
                    }
                    let State::Running(running) = std::mem::replace(&mut self.state, State::Ended) else { continue };
                    let Some(event) = event else { return Poll::Ready(None) };
                    self.state = State::Working(running.respond(event).boxed());
                }
                State::Working(work) => {
                    let (response, next) = ready!(work.poll_unpin(cx));
                    self.state = next;
                    if response.is_some() {
                        return Poll::Ready(response);
                    }
                }
                State::Ended => return Poll::Ready(None),
            }
        }
    }
}

/// Polls the library until the resolver hands over its events, or fails. A resolver that shares nothing yields responses from
/// the start.
fn start(
    mut responses: BoxStream<'static, GraphQLResponse>,
    handover: Handover,
    key: RenderingKey,
    budget: Budget,
) -> BoxFuture<'static, Worked> {
    let starting = async move {
        let started = futures_util::future::poll_fn(|cx| match responses.poll_next_unpin(cx) {
            Poll::Ready(response) => Poll::Ready(Err(response)),
            Poll::Pending => handover.take().map_or(Poll::Pending, |taken| Poll::Ready(Ok(taken))),
        });
        match budget.run_within(started).await {
            Ok(Ok(handed_over)) => {
                let access = format!("{:?}", handed_over.access);
                let key = Sha256::new().chain_update(key).chain_update(access).finalize().into();
                (None, State::Running(Running { handed_over, responses, key, budget, is_stopped: false }))
            }
            Ok(Err(None)) => (None, State::Ended),
            Ok(Err(response)) => (response, State::Working(start(responses, handover, key, budget))),
            Err(error) => (Some(GraphQLResponse::stopped(error)), State::Ended),
        }
    };
    starting.boxed()
}

impl Running {
    /// The response to the event, if an equal operation has made it.
    fn rendered(&self, event: &Renderings) -> Option<GraphQLResponse> {
        let response = self.shared(event.rendered(&self.key)?);
        Some(response.answering_event_of(event.published()))
    }

    /// Makes the response to the event, or waits for an equal operation that makes it.
    async fn respond(mut self, event: Option<Arc<Renderings>>) -> Worked {
        let response = match &event {
            Some(event) => {
                let response = self.render_shared(event).await;
                response.map(|response| response.answering_event_of(event.published()))
            }
            None => self.render().await,
        };
        let runs_on = response.is_some() && !self.is_stopped;
        (response, if runs_on { State::Running(self) } else { State::Ended })
    }

    /// The response of the present event, by this or by an equal operation.
    async fn render_shared(&mut self, event: &Arc<Renderings>) -> Option<GraphQLResponse> {
        match event.join(&self.key) {
            Part::Rendered(bytes) => Some(self.shared(bytes)),
            Part::Waiting(part) => match part.rendered().await {
                Some(bytes) => Some(self.shared(bytes)),
                None => self.render().await,
            },
            Part::Leading(part) => {
                let response = self.render().await?;
                Some(lead(part, response))
            }
            Part::Alone => self.render().await,
        }
    }

    fn shared(&self, bytes: Bytes) -> GraphQLResponse {
        self.handed_over.shared.inc();
        GraphQLResponse::shared(bytes)
    }

    /// The library's response to the present event.
    async fn render(&mut self) -> Option<GraphQLResponse> {
        self.handed_over.rendered.inc();
        self.handed_over.wake.wake();
        if let Some(response) = self.responses.next().now_or_never() {
            return response;
        }
        // On a task of its own: others may wait for the response, and nobody polls this stream while its client reads
        // nothing.
        let mut responses = std::mem::replace(&mut self.responses, futures_util::stream::empty().boxed());
        let budget = self.budget.clone();
        let rendering = async move { (budget.run_within(responses.next()).await, responses) };
        let (response, responses) = spawn_and_join(rendering).await;
        self.responses = responses;
        response.unwrap_or_else(|error| {
            self.is_stopped = true;
            Some(GraphQLResponse::stopped(error))
        })
    }
}

/// Gives the response to the others, unless it has errors.
fn lead(part: LeadingPart, response: GraphQLResponse) -> GraphQLResponse {
    match response.to_shared() {
        Some(bytes) => {
            part.share(&bytes);
            GraphQLResponse::shared(bytes)
        }
        None => response,
    }
}
