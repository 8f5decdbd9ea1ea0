use async_graphql::{EmptySubscription, Object, Result};
use serde_json::{Value, json};
use tokio::sync::Notify;

use super::*;
use crate::graphql::request::GraphQLRequest;

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

    async fn optional(&self) -> Option<Thing> {
        Some(Thing)
    }

    async fn optional_things(&self) -> Vec<Option<Thing>> {
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

    async fn optional_page(&self, first: i32) -> Option<i32> {
        Some(first)
    }

    async fn fails(&self) -> Result<i32> {
        Err("no".into())
    }

    async fn optional_fails(&self) -> Result<Option<i32>> {
        Err("no".into())
    }

    async fn optional_inner(&self) -> Option<Thing> {
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
    let response = engine.execute(prepared, caller).await.json();
    assert!(response["errors"].is_array(), "{response}");
    response["data"].clone()
}

/// The execution timeout of the test below.
const BRIEF: Duration = Duration::from_millis(1);

async fn outlast_the_timeout() -> i32 {
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
        outlast_the_timeout().await
    }
}

struct SlowMutation;

#[Object]
impl SlowMutation {
    async fn slow(&self) -> i32 {
        outlast_the_timeout().await
    }
}

#[tokio::test]
async fn a_query_is_stopped_after_the_timeout_and_a_mutation_is_not() {
    let engine = Engine::new(Schema::new(Slow, SlowMutation, EmptySubscription), true).execution_timeout(BRIEF);
    let caller = Caller { viewer: Viewer(None), peer: Peer(None) };
    for (query, expected) in [("{ slow }", json!("UNAVAILABLE")), ("mutation { slow }", Value::Null)] {
        let prepared =
            engine.prepare(GraphQLRequest { query: Some(query.to_owned()), ..GraphQLRequest::default() }).unwrap();
        let response = engine.execute(prepared, caller.clone()).await.json();
        assert_eq!(response["errors"][0]["extensions"]["code"], expected, "{response}");
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
async fn a_query_completes_even_if_nobody_reads_its_stream() {
    let done = Arc::<Notify>::default();
    let schema = Schema::new(Signals(done.clone()), async_graphql::EmptyMutation, EmptySubscription);
    let engine = Engine::new(schema, true);
    let prepared =
        engine.prepare(GraphQLRequest { query: Some("{ signal }".to_owned()), ..GraphQLRequest::default() }).unwrap();
    let mut responses = engine.stream(prepared, Caller { viewer: Viewer(None), peer: Peer(None) });
    assert!(futures_util::poll!(responses.next()).is_pending());
    done.notified().await;
    assert!(!responses.next().await.unwrap().is_request_error());
    assert!(responses.next().await.is_none());
}

#[tokio::test]
async fn a_failed_field_makes_its_nearest_nullable_ancestor_null() {
    for (query, expected) in [
        ("{ thing { id fails } }", json!(null)),
        ("{ things { id fails } }", json!(null)),
        ("{ things { fails } }", json!(null)),
        ("{ optional { id fails } }", json!({"optional": null})),
        (
            "{ a: optional { ...F } b: thing { id } } fragment F on Thing { x: fails }",
            json!({"a": null, "b": {"id": 1}}),
        ),
        ("{ optional { inner { ... on Thing { inner { fails } } } } }", json!({"optional": null})),
        ("{ optionalThings { id fails } }", json!({"optionalThings": [null, null]})),
        ("{ thing { id optionalFails } }", json!({"thing": {"id": 1, "optionalFails": null}})),
        ("{ thing { optionalFails } }", json!({"thing": {"optionalFails": null}})),
        ("{ optional { optionalFails fails } }", json!({"optional": null})),
        ("{ optional { fails optionalInner { fails } } }", json!({"optional": null})),
        ("{ optional { optionalInner { fails } fails } }", json!({"optional": null})),
        ("{ optional { optionalInner { fails } } }", json!({"optional": {"optionalInner": null}})),
    ] {
        assert_eq!(data(query).await, expected, "{query}");
    }
}
