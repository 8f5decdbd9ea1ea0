//! The one way from an edge into the schema: prepare (gate, parse, select), then execute or stream.
//!
//! Invariants: the library only ever sees documents that passed the gate; an operation's kind is
//! known before it runs; a query ends within its time; a panic in a resolver costs its
//! own operation and nothing else.

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
use super::{Peer, Viewer};
use crate::db::spawn_and_join;

/// How long a query may run. A mutation has no such bound: it may have committed when its time is up, and
/// UNAVAILABLE would call it safe to try again. Its wait for a connection and its statements have bounds.
pub const EXECUTION_TIMEOUT: Duration = Duration::from_secs(5);

/// A schema with its types forgotten, so that the edges don't depend on them.
pub trait Execute: Send + Sync {
    /// Runs a query or mutation.
    fn execute(&self, request: Request) -> BoxFuture<'_, Response>;
    /// Runs anything, a subscription for as long as it goes on.
    fn stream(&self, request: Request) -> BoxStream<'static, Response>;
    /// The schema's text.
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

/// Who asks, and from where.
#[derive(Clone)]
pub struct Caller {
    /// The signed-in user, if there is one.
    pub viewer: Viewer,
    /// The network address.
    pub peer: Peer,
}

/// A request that may run.
pub struct Prepared {
    document: Arc<Document>,
    operation_name: Option<String>,
    variables: Variables,
    kind: OperationKind,
}

impl Prepared {
    /// What its operation does.
    pub fn kind(&self) -> OperationKind {
        self.kind
    }
}

/// The schema behind its gate. Cheap to clone; all clones share the documents.
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
    /// Puts a gate before a schema. `introspection` is a setting of the server.
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

    /// Counts the answers that are too large to leave.
    #[must_use]
    pub fn with_oversized_counter(self, oversized: Counter) -> Self {
        Self { oversized, ..self }
    }

    /// With another bound on how long a query may run.
    #[must_use]
    pub fn execution_timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// Gates, parses and selects; nothing runs yet.
    pub fn prepare(&self, call: GraphQLRequest) -> Result<Prepared, RequestError> {
        let document = match (call.query, call.persisted) {
            (Some(text), claimed) => self.documents.by_text(&text, claimed)?,
            (None, Some(hash)) => self.documents.by_hash(hash)?,
            (None, None) => return Err(RequestError::parameter("query", "the request has no query")),
        };
        // Some clients send an empty name for none.
        let operation_name = call.operation_name.filter(|name| !name.is_empty());
        let (kind, introspects) = document.select(operation_name.as_deref())?;
        if introspects && !self.introspection {
            return Err(RequestError::new("FORBIDDEN", "introspection is off on this server"));
        }
        Ok(Prepared { document, operation_name, variables: call.variables, kind })
    }

    /// What makes an answer of what the library says to this operation.
    fn finish(&self, prepared: &Prepared) -> impl Fn(Response) -> GraphQLResponse + Send + use<> {
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
        // The text is gone: the library only needs it to parse and for its own tracing.
        let mut request = Request::new(String::new()).variables(prepared.variables);
        request.operation_name = prepared.operation_name;
        request.set_parsed_query(prepared.document.parsed.clone());
        if !self.introspection {
            request = request.disable_introspection();
        }
        request.data(caller.viewer).data(caller.peer).data(budget)
    }

    /// Runs a mutation to its end, a query to its end or to the end of its time.
    pub async fn execute(&self, prepared: Prepared, caller: Caller) -> GraphQLResponse {
        let (finish, kind) = (self.finish(&prepared), prepared.kind);
        let budget = Budget::default();
        let request = self.request(prepared, caller, budget.clone());
        // Nothing of ours is read again after a panic: the operation's state goes with it.
        let running = AssertUnwindSafe(budget.run_within(self.schema.execute(request))).catch_unwind();
        let ended = match kind {
            OperationKind::Mutation => Ok(running.await),
            _ => tokio::time::timeout(self.timeout, running).await,
        };
        match ended {
            Ok(Ok(Ok(response))) => finish(response),
            Ok(Ok(Err(refusal))) => GraphQLResponse::stopped(refusal),
            Ok(Err(_)) => panicked(),
            Err(_) => GraphQLResponse::stopped(RequestError::new(
                "UNAVAILABLE",
                "the operation took too long and was stopped",
            )),
        }
    }

    /// Runs anything as a stream of answers: one for a query or mutation, any number for a
    /// subscription. Dropping the stream ends it.
    pub fn stream(&self, prepared: Prepared, caller: Caller) -> BoxStream<'static, GraphQLResponse> {
        if prepared.kind != OperationKind::Subscription {
            let engine = self.clone();
            // The stream is not polled while its reader takes nothing; the operation has connections to give back.
            let running = spawn_and_join(async move { engine.execute(prepared, caller).await });
            return futures_util::stream::once(running).boxed();
        }
        let (finish, budget) = (self.finish(&prepared), Budget::default());
        let running = self.schema.stream(self.request(prepared, caller, budget.clone()));
        let answers =
            AssertUnwindSafe(running).catch_unwind().map(move |item| item.map_or_else(|_| panicked(), &finish));
        unfold(Some((answers.boxed(), budget)), |running| async move {
            let (mut answers, budget) = running?;
            match budget.run_within(answers.next()).await {
                Ok(answer) => Some((answer?, Some((answers, budget)))),
                Err(refusal) => Some((GraphQLResponse::stopped(refusal), None)),
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
mod tests {
    use async_graphql::{EmptySubscription, Object, Result};
    use serde_json::{Value, json};
    use tokio::sync::Notify;

    use super::*;

    struct Query;

    struct Thing;

    #[Object]
    impl Query {
        async fn thing(&self) -> Thing {
            Thing
        }

        async fn things(&self) -> Vec<Thing> {
            vec![Thing, Thing]
        }

        async fn perhaps(&self) -> Option<Thing> {
            Some(Thing)
        }

        async fn perhaps_some(&self) -> Vec<Option<Thing>> {
            vec![Some(Thing), None]
        }
    }

    #[Object]
    impl Thing {
        async fn id(&self) -> i32 {
            1
        }

        async fn page(&self, first: i32) -> i32 {
            first
        }

        async fn perhaps_page(&self, first: i32) -> Option<i32> {
            Some(first)
        }

        async fn fails(&self) -> Result<i32> {
            Err("no".into())
        }

        async fn perhaps_fails(&self) -> Result<Option<i32>> {
            Err("no".into())
        }

        async fn perhaps_inner(&self) -> Option<Thing> {
            Some(Thing)
        }

        async fn inner(&self) -> Thing {
            Thing
        }
    }

    async fn data(query: &str) -> Value {
        let engine = Engine::new(Schema::new(Query, async_graphql::EmptyMutation, EmptySubscription), true);
        let prepared =
            engine.prepare(GraphQLRequest { query: Some(query.to_owned()), ..GraphQLRequest::default() }).unwrap();
        let caller = Caller { viewer: Viewer(None), peer: Peer(None) };
        let answer = serde_json::to_value(engine.execute(prepared, caller).await).unwrap();
        assert!(answer["errors"].is_array(), "{answer}");
        answer["data"].clone()
    }

    /// How long the queries of the test below may take.
    const BRIEF: Duration = Duration::from_millis(1);

    async fn outlast() -> i32 {
        let started = std::time::Instant::now();
        while started.elapsed() < 20 * BRIEF {
            tokio::task::yield_now().await;
        }
        1
    }

    struct Slow;

    #[Object]
    impl Slow {
        async fn slow(&self) -> i32 {
            outlast().await
        }
    }

    struct SlowMutation;

    #[Object]
    impl SlowMutation {
        async fn slow(&self) -> i32 {
            outlast().await
        }
    }

    #[tokio::test]
    async fn a_query_ends_with_its_time_and_a_mutation_with_its_work() {
        let engine = Engine::new(Schema::new(Slow, SlowMutation, EmptySubscription), true).execution_timeout(BRIEF);
        let caller = Caller { viewer: Viewer(None), peer: Peer(None) };
        for (query, expected) in [("{ slow }", json!("UNAVAILABLE")), ("mutation { slow }", Value::Null)] {
            let prepared =
                engine.prepare(GraphQLRequest { query: Some(query.to_owned()), ..GraphQLRequest::default() }).unwrap();
            let answer = serde_json::to_value(engine.execute(prepared, caller.clone()).await).unwrap();
            assert_eq!(answer["errors"][0]["extensions"]["code"], expected, "{answer}");
        }
    }

    struct Signals(Arc<Notify>);

    #[Object]
    impl Signals {
        async fn signal(&self) -> bool {
            tokio::task::yield_now().await;
            self.0.notify_one();
            true
        }
    }

    #[tokio::test]
    async fn a_query_goes_on_though_nobody_reads_its_stream() {
        let done = Arc::<Notify>::default();
        let schema = Schema::new(Signals(done.clone()), async_graphql::EmptyMutation, EmptySubscription);
        let engine = Engine::new(schema, true);
        let prepared = engine
            .prepare(GraphQLRequest { query: Some("{ signal }".to_owned()), ..GraphQLRequest::default() })
            .unwrap();
        let mut answers = engine.stream(prepared, Caller { viewer: Viewer(None), peer: Peer(None) });
        assert!(futures_util::poll!(answers.next()).is_pending());
        done.notified().await;
        assert!(!answers.next().await.unwrap().is_request_error());
        assert!(answers.next().await.is_none());
    }

    #[tokio::test]
    async fn a_failed_field_takes_its_nearest_nullable_ancestor_with_it() {
        for (query, expected) in [
            ("{ thing { id fails } }", json!(null)),
            ("{ things { id fails } }", json!(null)),
            ("{ things { fails } }", json!(null)),
            ("{ perhaps { id fails } }", json!({"perhaps": null})),
            (
                "{ a: perhaps { ...F } b: thing { id } } fragment F on Thing { x: fails }",
                json!({"a": null, "b": {"id": 1}}),
            ),
            ("{ perhaps { inner { ... on Thing { inner { fails } } } } }", json!({"perhaps": null})),
            ("{ perhapsSome { id fails } }", json!({"perhapsSome": [null, null]})),
            ("{ thing { id perhapsFails } }", json!({"thing": {"id": 1, "perhapsFails": null}})),
            ("{ thing { perhapsFails } }", json!({"thing": {"perhapsFails": null}})),
            ("{ perhaps { perhapsFails fails } }", json!({"perhaps": null})),
            ("{ perhaps { fails perhapsInner { fails } } }", json!({"perhaps": null})),
            ("{ perhaps { perhapsInner { fails } fails } }", json!({"perhaps": null})),
            ("{ perhaps { perhapsInner { fails } } }", json!({"perhaps": {"perhapsInner": null}})),
            // An Int out of range is found by the library only while executing.
            ("{ things { page(first: 99999999999) } }", json!(null)),
            (
                "{ things { id perhapsPage(first: 99999999999) } }",
                json!({"things": [
                {"id": 1, "perhapsPage": null}, {"id": 1, "perhapsPage": null}]}),
            ),
        ] {
            assert_eq!(data(query).await, expected, "{query}");
        }
    }
}
