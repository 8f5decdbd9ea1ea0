//! Objects that are written as rows: the same bytes as the ordinary objects give, for any selection and any viewer.

mod selection;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_graphql::{Request, Response, Value as ConstValue};
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use futures_util::{FutureExt, StreamExt};
use serde_json::json;
use smarthome::graphql::engine::{Caller, Engine, Execute};
use smarthome::graphql::request::GraphQLRequest;
use smarthome::graphql::rows::Rows;
use smarthome::graphql::{Peer, Schema, Viewer};

use super::{Graph, Person, number};
use crate::support;
use selection::Selections;

/// Random selections per viewer.
const N_SELECTIONS: usize = 150;

/// The schema, which resolves ordinary objects only, or counts the rows that were written.
#[derive(Clone)]
struct Counting {
    schema: Schema,
    rows: bool,
    n_written: Arc<AtomicUsize>,
}

impl Counting {
    fn request(&self, request: Request) -> Request {
        if self.rows { request } else { request.data(Rows(false)) }
    }

    fn counted(&self, response: Response) -> Response {
        self.n_written.fetch_add(n_binary(&response.data), Ordering::Relaxed);
        response
    }
}

impl Execute for Counting {
    fn execute(&self, request: Request) -> BoxFuture<'_, Response> {
        self.schema.execute(self.request(request)).map(|response| self.counted(response)).boxed()
    }

    fn stream(&self, request: Request) -> BoxStream<'static, Response> {
        let this = self.clone();
        self.schema.execute_stream(self.request(request)).map(move |response| this.counted(response)).boxed()
    }

    fn sdl(&self) -> String {
        self.schema.sdl()
    }
}

fn n_binary(value: &ConstValue) -> usize {
    match value {
        ConstValue::Binary(_) => 1,
        ConstValue::List(items) => items.iter().map(n_binary).sum(),
        ConstValue::Object(fields) => fields.values().map(n_binary).sum(),
        _ => 0,
    }
}

/// The same schema twice: with rows, and with ordinary objects only.
struct Pair {
    rows: Engine,
    objects: Engine,
    n_written: Arc<AtomicUsize>,
}

impl Pair {
    fn new(graph: &Graph) -> Self {
        let n_written = Arc::<AtomicUsize>::default();
        let engine =
            |rows| Engine::new(Counting { schema: graph.schema.clone(), rows, n_written: n_written.clone() }, true);
        Self { rows: engine(true), objects: engine(false), n_written: n_written.clone() }
    }

    /// The response with rows, after it was compared. The number says how many objects and lists were rows.
    async fn ask(&self, who: &Person, query: &str) -> (String, usize) {
        let before = self.n_written.load(Ordering::Relaxed);
        let ordinary = written(&self.objects, who, query).await;
        assert_eq!(self.n_written.load(Ordering::Relaxed), before, "{query}: written as rows");
        let rows = written(&self.rows, who, query).await;
        assert_eq!(rows, ordinary, "{query}");
        (rows, self.n_written.load(Ordering::Relaxed) - before)
    }
}

/// A response with its errors in a fixed order: items of a list are resolved concurrently, and the order in which they
/// fail is not defined.
async fn written(engine: &Engine, who: &Person, query: &str) -> String {
    let text = written_unsorted(engine, who, query).await;
    let Some(rest) = text.strip_prefix("{\"errors\":") else { return text };
    let mut errors = serde_json::Deserializer::from_str(rest).into_iter::<Vec<serde_json::Value>>();
    let mut sorted: Vec<_> = errors.next().unwrap().unwrap().iter().map(ToString::to_string).collect();
    sorted.sort();
    format!("{{\"errors\":{}{}", sorted.join(","), &rest[errors.byte_offset()..])
}

async fn written_unsorted(engine: &Engine, who: &Person, query: &str) -> String {
    let caller = Caller { viewer: Viewer(who.0.clone()), peer: Peer(None) };
    let request = GraphQLRequest::from_json(&json!({ "query": query }).to_string()).unwrap();
    let response = match engine.prepare(request) {
        Ok(prepared) => engine.execute(prepared, caller).await,
        Err(refused) => refused.into(),
    };
    let mut out = Vec::new();
    response.write(&mut out);
    String::from_utf8(out).unwrap()
}

/// A home whose rows have every kind of value.
async fn home_of_all_values(graph: &Graph, owner: &Person) -> (String, Vec<String>) {
    let home = graph.home(owner).await;
    let devices = graph.devices(owner, &home, 4).await;
    let fill = include_str!("rows/home.sql").replace(":home", &home).replace(":device", &devices[0]);
    graph.sql.batch_execute(&fill).await.unwrap();
    (home, devices)
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_and_ordinary_objects_give_the_same_bytes_for_random_selections() {
    let mut random = support::rng();
    let graph = Graph::start().await;
    let owner = graph.person().await;
    let (home, devices) = home_of_all_values(&graph, &owner).await;
    let pair = Pair::new(&graph);
    let sdl = graph.schema.sdl();
    let selections = Selections::new(&sdl, &home, &devices);
    // An integration with scopes may be refused single fields; a member gets them all.
    let mut viewers = vec![owner];
    for scopes in [1_i16, 2, 3, 4] {
        let integration = graph.person().await;
        let insert = "insert into memberships (home_id, user_id, role, scopes) values ($1, $2, 'GUEST', $3)";
        let user = integration.0.as_ref().unwrap().user.get();
        graph.sql.execute(insert, &[&number(&home), &user, &scopes]).await.unwrap();
        viewers.push(integration);
    }
    let (mut n_rows, mut n_refused) = (0, 0);
    for viewer in &viewers {
        for _ in 0..N_SELECTIONS {
            let query = selections.query(&mut random);
            let (answer, n_written) = pair.ask(viewer, &query).await;
            n_rows += n_written;
            n_refused += usize::from(answer.starts_with("{\"errors\""));
        }
    }
    assert!(n_rows > N_SELECTIONS && n_refused > N_SELECTIONS, "{n_rows} written, {n_refused} refused");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_plain_field_of_a_reading_and_of_a_device_is_written_as_a_row() {
    let graph = Graph::start().await;
    let owner = graph.person().await;
    let (home, devices) = home_of_all_values(&graph, &owner).await;
    let pair = Pair::new(&graph);
    let sdl = graph.schema.sdl();
    let selections = Selections::new(&sdl, &home, &devices);
    let reading =
        format!("{} sensors {{ __typename {} }}", selections.leaves("Telemetry"), selections.leaves("Sensors"));
    let page = "pageInfo { __typename hasNextPage hasPreviousPage startCursor endCursor } __typename";
    let query = |fields: &str| format!("{{ device(id: {}) {{ {fields} }} }}", devices[0]);
    for query in [
        query(&format!(
            "telemetry {{ nodes {{ __typename {reading} }} edges {{ cursor node {{ {reading} }} }} {page} }}"
        )),
        query(&format!("latestTelemetry {{ {reading} }}")),
        query(&selections.leaves("Device")),
        format!("{{ devices(homeId: {home}) {{ nodes {{ {} }} {page} }} }}", selections.leaves("Device")),
        format!("{{ devices(homeId: {home}) {{ nodes {{ id state {{ {} }} }} }} }}", selections.leaves("DeviceState")),
        format!("{{ devices(homeId: {home}) {{ nodes {{ id latestTelemetry {{ {reading} }} }} }} }}"),
        format!("{{ devices(homeId: {home}) {{ edges {{ node {{ online latestTelemetry {{ {reading} }} }} }} }} }}"),
    ] {
        let (answer, n_written) = pair.ask(&owner, &query).await;
        assert_eq!(n_written, 1, "{query}: {answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fragments_directives_and_repeated_keys_are_written_as_rows() {
    let graph = Graph::start().await;
    let owner = graph.person().await;
    let (home, _) = home_of_all_values(&graph, &owner).await;
    let pair = Pair::new(&graph);
    for nodes in [
        "nodes { id } nodes { key }",
        "nodes { id ... { key } }",
        "nodes { ...F }",
        "nodes { id @include(if: true) key }",
        "nodes { id } ... { nodes { key } }",
    ] {
        let fragment = if nodes.contains("...F") { "fragment F on Device { id key }" } else { "" };
        let query = format!("{{ devices(homeId: {home}, first: 1) {{ {nodes} }} }} {fragment}");
        let (answer, n_written) = pair.ask(&owner, &query).await;
        assert_eq!(n_written, 1, "{query}");
        assert!(answer.contains("\"id\":") && answer.contains("\"key\":"), "{query}: {answer}");
    }
    let query = format!("{{ devices(homeId: {home}, first: 1) {{ nodes {{ id @skip(if: true) }} }} }}");
    assert_eq!(pair.ask(&owner, &query).await, (r#"{"data":{"devices":{"nodes":[{}]}}}"#.to_owned(), 1));
}

/// The columns that a statement reads depend on the selection: none that a field needs may be left out.
#[tokio::test(flavor = "multi_thread")]
async fn a_field_selected_alone_has_the_value_that_it_has_among_all_fields() {
    let graph = Graph::start().await;
    let owner = graph.person().await;
    let (home, devices) = home_of_all_values(&graph, &owner).await;
    let engine = Pair::new(&graph).rows;
    let sdl = graph.schema.sdl();
    let selections = Selections::new(&sdl, &home, &devices);
    let lists = [
        ("Telemetry", format!("{{ device(id: {}) {{ telemetry {{ nodes {{ # }} }} }} }}", devices[0])),
        ("Telemetry", format!("{{ device(id: {}) {{ telemetry {{ edges {{ node {{ # }} }} }} }} }}", devices[0])),
        ("Telemetry", format!("{{ devices(homeId: {home}) {{ nodes {{ latestTelemetry {{ # }} }} }} }}")),
        ("Device", format!("{{ devices(homeId: {home}) {{ nodes {{ # }} }} }}")),
        ("Device", format!("{{ devices(homeId: {home}) {{ edges {{ node {{ # latestTelemetry {{ id }} }} }} }} }}")),
        ("DeviceState", format!("{{ devices(homeId: {home}) {{ nodes {{ state {{ # }} }} }} }}")),
        (
            "DeviceState",
            format!("{{ devices(homeId: {home}) {{ nodes {{ latestTelemetry {{ id }} state {{ # }} }} }} }}"),
        ),
    ];
    let mut n_values = 0;
    for (type_name, list) in lists {
        let leaves = selections.leaves(type_name);
        let ask = async |fields: &str| {
            let answer = written(&engine, &owner, &list.replace('#', fields)).await;
            serde_json::from_str::<serde_json::Value>(&answer).unwrap()
        };
        let whole = ask(&leaves).await;
        for field in leaves.split_whitespace() {
            let (alone, among_all) = (values(&ask(field).await, field), values(&whole, field));
            assert_eq!(alone, among_all, "{list}: {field}");
            n_values += among_all.iter().filter(|value| !value.is_null()).count();
        }
    }
    assert!(n_values > 100, "{n_values} values");
}

/// The values of a key, wherever it is.
fn values(json: &serde_json::Value, key: &str) -> Vec<serde_json::Value> {
    match json {
        serde_json::Value::Object(fields) => fields
            .iter()
            .flat_map(|(name, value)| if name == key { vec![value.clone()] } else { values(value, key) })
            .collect(),
        serde_json::Value::Array(items) => items.iter().flat_map(|item| values(item, key)).collect(),
        _ => Vec::new(),
    }
}
