//! Equal operations share one execution and one serialized response of each event.
//!
//! The library would execute a subscription's selection for every subscriber. Here the resolver hands the subscription's
//! events over to this driver. For each event, the driver asks the library for a response only if no equal subscriber
//! has made it. What equal means is in the [`RenderingKey`]: the normalised operation with the values of its variables,
//! the principal, and the rights in the home.

use std::fmt::Debug;
use std::sync::{Arc, Mutex};
use std::task::Poll;

use async_stream::stream;
use bytes::Bytes;
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
    let mut driver = Driver { responses, state: State::Starting(handover), key, budget };
    stream! {
        while let Some(response) = driver.next().await {
            yield response;
        }
    }
}

struct Driver {
    /// The library's, one for each event that the resolver's stream yields.
    responses: BoxStream<'static, GraphQLResponse>,
    state: State,
    key: RenderingKey,
    budget: Budget,
}

enum State {
    /// The resolver has not handed over its events yet.
    Starting(Handover),
    Running(HandedOver),
    Ended,
}

impl Driver {
    async fn next(&mut self) -> Option<GraphQLResponse> {
        if let State::Starting(handover) = &self.state {
            let handover = handover.clone();
            if let Some(response) = self.start(&handover).await {
                return Some(response);
            }
        }
        let State::Running(running) = &mut self.state else { return None };
        match running.events.next().await? {
            Some(renderings) => {
                let response = self.render_shared(&renderings).await?;
                Some(response.answering_event_of(renderings.published()))
            }
            None => self.render().await,
        }
    }

    /// Polls the library until the resolver hands over its events, or fails.
    async fn start(&mut self, handover: &Handover) -> Option<GraphQLResponse> {
        let responses = &mut self.responses;
        let started = futures_util::future::poll_fn(|cx| match responses.poll_next_unpin(cx) {
            Poll::Ready(response) => Poll::Ready(Err(response)),
            Poll::Pending => handover.take().map_or(Poll::Pending, |taken| Poll::Ready(Ok(taken))),
        });
        match self.budget.run_within(started).await {
            Ok(Ok(running)) => {
                let access = format!("{:?}", running.access);
                self.key = Sha256::new().chain_update(self.key).chain_update(access).finalize().into();
                self.state = State::Running(running);
                None
            }
            Ok(Err(response)) => response,
            Err(error) => {
                self.state = State::Ended;
                Some(GraphQLResponse::stopped(error))
            }
        }
    }

    /// The response of the present event, by this or by an equal operation.
    async fn render_shared(&mut self, renderings: &Arc<Renderings>) -> Option<GraphQLResponse> {
        match renderings.join(&self.key) {
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
        if let State::Running(running) = &self.state {
            running.shared.inc();
        }
        GraphQLResponse::shared(bytes)
    }

    /// The library's response to the present event.
    async fn render(&mut self) -> Option<GraphQLResponse> {
        if let State::Running(running) = &self.state {
            running.rendered.inc();
            running.wake.wake();
        }
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
            self.state = State::Ended;
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
