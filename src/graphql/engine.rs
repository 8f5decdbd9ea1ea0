//! Runs operations: prepare, then execute or stream.
//!
//! Every transport uses this one path. Invariants: the library receives only normalised operations (see `operation`) of
//! documents that the limits accepted; the type of an operation is known before it runs; a query ends within its time; a
//! panic in a resolver ends only its own operation.

mod prepare;

use std::num::NonZeroUsize;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_graphql::parser::types::ExecutableDocument;
use async_graphql::{ObjectType, Request, Response, Schema, SubscriptionType};
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use futures_util::{FutureExt, StreamExt};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use tracing::Instrument;

use super::document::Documents;
use super::limits::budget::Budget;
use super::limits::complexity;
use super::live::{self, Handover};
use super::operation::{Normalised, OperationKind};
use super::request_error::RequestError;
use super::response::GraphQLResponse;
use super::rows::Rows;
use super::validation::Types;
use super::weighted_cache::WeightedCache;
use super::{Peer, Viewer, null_propagation, response_order};
use crate::db::spawn_and_join;
use crate::ids::UserId;
use crate::metrics::{Kind, Latency, Timer};
use crate::request_memory::{RequestMemory, Reservation};
use crate::turns::Turns;
pub use prepare::Prepared;
use prepare::SelectionKey;

/// How long a query may run. A mutation has no such limit: it may have committed when the time is up, and the error
/// UNAVAILABLE would say that it is safe to retry. Its statements, and its wait for a connection, have timeouts.
pub const EXECUTION_TIMEOUT: Duration = Duration::from_secs(5);

/// A schema with its types erased, so that the transports don't depend on them.
pub trait Execute: Send + Sync {
    /// Runs a query or a mutation.
    fn execute(&self, request: Request) -> BoxFuture<'_, Response>;
    /// Runs any operation. A subscription yields many responses.
    fn stream(&self, request: Request) -> BoxStream<'static, Response>;
    /// The schema in the schema definition language.
    fn sdl(&self) -> String;
}

impl<Q, M, S> Execute for Schema<Q, M, S>
where
    Q: ObjectType + 'static,
    M: ObjectType + 'static,
    S: SubscriptionType + 'static,
{
    fn execute(&self, request: Request) -> BoxFuture<'_, Response> {
        Schema::execute(self, request).boxed()
    }

    fn stream(&self, request: Request) -> BoxStream<'static, Response> {
        self.execute_stream(request)
    }

    fn sdl(&self) -> String {
        Schema::sdl(self)
    }
}

/// The client of a request.
#[derive(Clone)]
pub struct Caller {
    pub viewer: Viewer,
    pub peer: Peer,
}

impl Caller {
    /// The user who has signed in.
    pub fn user(&self) -> Option<UserId> {
        self.viewer.0.as_ref().map(|principal| principal.user)
    }
}

/// Most cached selections.
const MAX_SELECTIONS: NonZeroUsize = NonZeroUsize::new(2_000).expect("not zero");
/// Most memory of all cached selections, in bytes.
const MAX_SELECTION_BYTES: usize = 32 << 20;
/// Checks and runs operations on a schema. Cheap to clone; all clones share the caches.
#[derive(Clone)]
pub struct Engine {
    schema: Arc<dyn Execute>,
    types: Arc<Types>,
    documents: Arc<Documents>,
    selections: Arc<Mutex<WeightedCache<SelectionKey, Normalised>>>,
    introspection: bool,
    timeout: Duration,
    oversized: Counter,
    times: Family<Kind, Latency>,
    memory: RequestMemory,
    turns: Turns,
    statement_turns: Turns,
}

impl Engine {
    /// `introspection` is a setting of the server.
    pub fn new(schema: impl Execute + 'static, introspection: bool) -> Self {
        let types = Arc::new(Types::read(&schema.sdl(), introspection));
        Self {
            schema: Arc::new(schema),
            documents: Arc::new(Documents::new(types.clone())),
            types,
            selections: Arc::new(Mutex::new(WeightedCache::new(MAX_SELECTIONS, MAX_SELECTION_BYTES))),
            introspection,
            timeout: EXECUTION_TIMEOUT,
            oversized: Counter::default(),
            times: Family::default(),
            memory: RequestMemory::default(),
            turns: Turns::default(),
            statement_turns: Turns::default(),
        }
    }

    /// Counts the memory of operations and responses here.
    #[must_use]
    pub fn with_memory(self, memory: RequestMemory) -> Self {
        Self { memory, ..self }
    }

    /// Limits the operations of a user that run at once, and the statements of these.
    #[must_use]
    pub fn with_turns(self, turns: Turns, statement_turns: Turns) -> Self {
        Self { turns, statement_turns, ..self }
    }

    /// Counts the responses that are too large to be sent.
    #[must_use]
    pub fn with_oversized_counter(self, oversized: Counter) -> Self {
        Self { oversized, ..self }
    }

    /// Measures operations here.
    #[must_use]
    pub fn with_times(self, times: Family<Kind, Latency>) -> Self {
        Self { times, ..self }
    }

    /// Sets how long a query may run.
    #[must_use]
    pub fn execution_timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// The function that turns responses of the library to this operation into responses to the client.
    fn finisher(&self, selection: Arc<Normalised>) -> impl Fn(Response) -> GraphQLResponse + Send + use<> {
        let oversized = self.oversized.clone();
        move |mut response| {
            if response.errors.is_empty() {
                response_order::order(&mut response.data, &selection.roots);
            } else {
                null_propagation::propagate(&mut response, &selection.roots);
                response_order::order_all(&mut response.data, &selection.roots);
            }
            if selection.has_empty {
                response_order::remove_placeholders(&mut response.data, &selection.roots);
            }
            GraphQLResponse::new(response).counted(&oversized)
        }
    }

    fn request(&self, operation: ExecutableDocument, caller: Caller, budget: Budget) -> Request {
        // Without the text, which the library needs only for parsing and for its own tracing.
        let mut request = Request::new(String::new());
        request.set_parsed_query(operation);
        if !self.introspection {
            request = request.disable_introspection();
        }
        request.data(caller.viewer).data(caller.peer).data(budget).data(Rows(true))
    }

    /// Measures an operation until the value is dropped.
    fn measure(&self, kind: OperationKind) -> Timer {
        self.times.get_or_create(&Kind { kind: kind.name() }).start()
    }

    fn reservation(&self, caller: &Caller) -> Reservation {
        self.memory.reservation(caller.user(), caller.peer.0)
    }

    /// Runs a query or a mutation when it is its turn. A query is stopped after the execution timeout.
    pub async fn execute(&self, prepared: Prepared, caller: Caller) -> GraphQLResponse {
        let Prepared { kind, complexity, selection, operation, .. } = prepared;
        let _measured = self.measure(kind);
        let finish = self.finisher(selection.clone());
        if selection.roots.is_empty() {
            return finish(Response::new(response_order::nothing()));
        }
        let user = caller.user();
        let _turn = match self.turns.wait(user).await {
            Ok(turn) => turn,
            Err(refused) => return RequestError::from(refused).into(),
        };
        if complexity > complexity::LARGE
            && let Some(user) = user
            && let Err(exceeded) = self.memory.check_large_operation(user)
        {
            return RequestError::from(exceeded).into();
        }
        let (memory, is_mutation) = (self.reservation(&caller), kind == OperationKind::Mutation);
        let budget = Budget::within(memory.clone(), user.map(|user| self.statement_turns.of(user)));
        let request = self.request(operation, caller, budget.clone());
        // Unwind safe: after a panic, the state of the operation is dropped and never read again.
        let running = AssertUnwindSafe(budget.run_within(self.schema.execute(request))).catch_unwind();
        let ended = match kind {
            OperationKind::Mutation => Ok(running.await),
            _ => tokio::time::timeout(self.timeout, running).await,
        };
        match ended {
            Ok(Ok(Ok(response))) => finish(response).holding(memory, is_mutation),
            Ok(Ok(Err(error))) => GraphQLResponse::stopped_or_refused(error, is_mutation),
            Ok(Err(_)) => panicked(),
            Err(_) => GraphQLResponse::stopped(RequestError::new(
                "UNAVAILABLE",
                "the operation took too long and was stopped",
            )),
        }
    }

    /// Runs any operation as a stream of responses: one for a query or a mutation, any number for a subscription.
    /// Dropping the stream ends the operation.
    pub fn stream(&self, prepared: Prepared, caller: Caller) -> BoxStream<'static, GraphQLResponse> {
        if prepared.kind != OperationKind::Subscription {
            let engine = self.clone();
            // On a task of its own: nobody polls the stream while its client reads nothing, but the operation holds a
            // database connection.
            let executing = async move { engine.execute(prepared, caller).await };
            let running = spawn_and_join(executing.in_current_span());
            return futures_util::stream::once(running).boxed();
        }
        let measured = self.measure(prepared.kind);
        let key = live::key(&prepared.operation, &caller.viewer);
        let (finish, memory) = (self.finisher(prepared.selection), self.reservation(&caller));
        let (budget, handover) = (Budget::within(memory.another(), None), Handover::default());
        let request = self.request(prepared.operation, caller, budget.clone()).data(handover.clone());
        let responses = AssertUnwindSafe(self.schema.stream(request)).catch_unwind();
        let rendering = budget.clone();
        let responses = responses.map(move |item| {
            let response = item.map_or_else(|_| panicked(), &finish);
            rendering.release();
            response
        });
        let responses = live::share(responses.boxed(), handover, key, budget);
        let holding = move |response: GraphQLResponse| {
            let _until_dropped = &measured;
            match response.needs_no_reservation() {
                true => response,
                false => response.holding(memory.another(), false),
            }
        };
        responses.map(holding).boxed()
    }
}

fn panicked() -> GraphQLResponse {
    tracing::error!("a resolver panicked");
    GraphQLResponse::stopped(RequestError::new("INTERNAL", "internal error"))
}

#[cfg(test)]
mod tests;
