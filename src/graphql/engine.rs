//! Runs operations: prepare (check limits, parse, select the operation), then execute or stream.
//!
//! Every transport uses this one path. Invariants: the library receives only documents that the limits accepted;
//! the type of an operation is known before it runs; a query ends within its time; a panic in a resolver ends only
//! its own operation.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use async_graphql::{ObjectType, Request, Response, Schema, SubscriptionType, Variables};
use futures_util::future::BoxFuture;
use futures_util::stream::{BoxStream, unfold};
use futures_util::{FutureExt, StreamExt};
use prometheus_client::metrics::counter::Counter;

use super::document::{Document, Documents, OperationKind};
use super::limits::budget::Budget;
use super::null_propagation::{self, Types};
use super::request::GraphQLRequest;
use super::request_error::RequestError;
use super::response::GraphQLResponse;
use super::rows::Rows;
use super::{Peer, Viewer};
use crate::db::spawn_and_join;

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

/// A request that was accepted and can run.
pub struct Prepared {
    document: Arc<Document>,
    operation_name: Option<String>,
    variables: Variables,
    kind: OperationKind,
}

impl Prepared {
    pub fn kind(&self) -> OperationKind {
        self.kind
    }
}

/// Checks and runs operations on a schema. Cheap to clone; all clones share the cached documents.
#[derive(Clone)]
pub struct Engine {
    schema: Arc<dyn Execute>,
    documents: Arc<Documents>,
    types: Arc<Types>,
    introspection: bool,
    timeout: Duration,
    oversized: Counter,
}

impl Engine {
    /// `introspection` is a setting of the server.
    pub fn new(schema: impl Execute + 'static, introspection: bool) -> Self {
        Self {
            types: Arc::new(Types::read(&schema.sdl())),
            schema: Arc::new(schema),
            documents: Arc::new(Documents::new()),
            introspection,
            timeout: EXECUTION_TIMEOUT,
            oversized: Counter::default(),
        }
    }

    /// Counts the responses that are too large to be sent.
    #[must_use]
    pub fn with_oversized_counter(self, oversized: Counter) -> Self {
        Self { oversized, ..self }
    }

    /// Sets how long a query may run.
    #[must_use]
    pub fn execution_timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// Checks and parses the document and selects the operation. Nothing runs yet.
    pub fn prepare(&self, request: GraphQLRequest) -> Result<Prepared, RequestError> {
        let document = match (request.query, request.persisted) {
            (Some(text), claimed) => self.documents.by_text(&text, claimed)?,
            (None, Some(hash)) => self.documents.by_hash(hash)?,
            (None, None) => return Err(RequestError::parameter("query", "the request has no query")),
        };
        // Some clients send an empty name in place of none.
        let operation_name = request.operation_name.filter(|name| !name.is_empty());
        let (kind, introspects) = document.select(operation_name.as_deref())?;
        if introspects && !self.introspection {
            return Err(RequestError::new("FORBIDDEN", "introspection is off on this server"));
        }
        Ok(Prepared { document, operation_name, variables: request.variables, kind })
    }

    /// The function that turns responses of the library to this operation into responses to the client.
    fn finisher(&self, prepared: &Prepared) -> impl Fn(Response) -> GraphQLResponse + Send + use<> {
        let (document, name) = (prepared.document.clone(), prepared.operation_name.clone());
        let (types, oversized) = (self.types.clone(), self.oversized.clone());
        move |mut response| {
            if !response.errors.is_empty() {
                null_propagation::propagate(&mut response, &document.parsed, name.as_deref(), &types);
            }
            GraphQLResponse::new(response).counted(&oversized)
        }
    }

    fn request(&self, prepared: Prepared, caller: Caller, budget: Budget) -> Request {
        // Without the text, which the library needs only for parsing and for its own tracing.
        let is_normal = prepared.document.is_normal;
        let mut request = Request::new(String::new()).variables(prepared.variables);
        request.operation_name = prepared.operation_name;
        request.set_parsed_query(prepared.document.parsed.clone());
        if !self.introspection {
            request = request.disable_introspection();
        }
        request.data(caller.viewer).data(caller.peer).data(budget).data(Rows(is_normal))
    }

    /// Runs a query or a mutation. A query is stopped after the execution timeout.
    pub async fn execute(&self, prepared: Prepared, caller: Caller) -> GraphQLResponse {
        let (finish, kind) = (self.finisher(&prepared), prepared.kind);
        let budget = Budget::default();
        let request = self.request(prepared, caller, budget.clone());
        // Unwind safe: after a panic, the state of the operation is dropped and never read again.
        let running = AssertUnwindSafe(budget.run_within(self.schema.execute(request))).catch_unwind();
        let ended = match kind {
            OperationKind::Mutation => Ok(running.await),
            _ => tokio::time::timeout(self.timeout, running).await,
        };
        match ended {
            Ok(Ok(Ok(response))) => finish(response),
            Ok(Ok(Err(error))) => GraphQLResponse::stopped(error),
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
            let running = spawn_and_join(async move { engine.execute(prepared, caller).await });
            return futures_util::stream::once(running).boxed();
        }
        let (finish, budget) = (self.finisher(&prepared), Budget::default());
        let running = self.schema.stream(self.request(prepared, caller, budget.clone()));
        let responses =
            AssertUnwindSafe(running).catch_unwind().map(move |item| item.map_or_else(|_| panicked(), &finish));
        unfold(Some((responses.boxed(), budget)), |running| async move {
            let (mut responses, budget) = running?;
            match budget.run_within(responses.next()).await {
                Ok(response) => Some((response?, Some((responses, budget)))),
                Err(error) => Some((GraphQLResponse::stopped(error), None)),
            }
        })
        .boxed()
    }
}

fn panicked() -> GraphQLResponse {
    tracing::error!("a resolver panicked");
    GraphQLResponse::stopped(RequestError::new("INTERNAL", "internal error"))
}

#[cfg(test)]
mod tests;
