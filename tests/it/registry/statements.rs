//! The number of statements of a query does not grow with its page size.

use serde_json::json;

use super::Graph;

const ALL_EDGES: &str = "query($h: ID!, $n: Int) { devices(homeId: $h, first: $n) { nodes { id online metadata topics { commands } \
    home { name myRole members { user { name homes { id } } } rooms { name devices { id } } devices(first: 2) { nodes { id } } } \
    room { name home { id } devices { id home { id } } } \
    latestTelemetry { sensors { temperature } device { name room { id } } } \
    telemetry(first: 3) { nodes { id device { id } } } } } }";

/// Statements of `ALL_EDGES`: one for each field that loads rows.
const ALL_EDGES_STATEMENTS: u64 = 16;

const LISTS: [(&str, u64); 2] = [
    (
        "query($h: ID!, $n: Int) { devices(homeId: $h, first: $n) { nodes { id key latestTelemetry { sensors { temperature } } } } }",
        1,
    ),
    ("query($h: ID!, $n: Int) { devices(homeId: $h, first: $n) { nodes { id key room { id } } } }", 2),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn fifty_devices_take_as_many_statements_as_five() {
    let graph = Graph::start().await;
    let (ann, bob) = (graph.person().await, graph.person().await);
    let home = graph.home(&ann).await;
    graph.join(&home, &bob, "GUEST").await;
    let devices = graph.devices(&ann, &home, 60).await;
    for n in 0..7 {
        let create = "mutation($h: ID!, $n: String!) { createRoom(input: {homeId: $h, name: $n}) { id } }";
        graph.ask(&ann, create, json!({"h": home, "n": format!("Room {n}")})).await;
    }
    let spread = "update devices d set room_id = (select id from rooms order by id offset d.id % 7 limit 1)";
    graph.sql.batch_execute(spread).await.unwrap();
    for device in &devices {
        graph.reading(&home, device, 1).await;
        graph.reading(&home, device, 2).await;
    }
    let statements = &graph.services.metrics.db_statements;
    let n_statements = async |query: &str, n: usize| {
        // The first run may open connections and prepare statements.
        graph.ask(&ann, query, json!({"h": home, "n": n})).await;
        let before = statements.get();
        graph.ask(&ann, query, json!({"h": home, "n": n})).await;
        statements.get() - before
    };
    for (query, expected) in LISTS {
        for n in [1, 5, 50] {
            assert_eq!(n_statements(query, n).await, expected, "{query} with {n}");
        }
    }
    for _ in 0..20 {
        assert_eq!(
            (n_statements(ALL_EDGES, 5).await, n_statements(ALL_EDGES, 50).await),
            (ALL_EDGES_STATEMENTS, ALL_EDGES_STATEMENTS)
        );
    }
    let one = "query($d: ID!) { device(id: $d) { name telemetry(first: 100) { nodes { id } } } }";
    let before = statements.get();
    graph.ask(&ann, one, json!({"d": devices[0]})).await;
    assert_eq!(statements.get() - before, 1);
}
