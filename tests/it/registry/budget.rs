//! What one operation may ask for in all.

use std::time::{Duration, Instant};

use serde_json::json;

use super::{Graph, live, number};

async fn rooms(graph: &Graph, home: &str, n: i32) {
    let insert = "insert into rooms (home_id, name) select $1, 'Room ' || n from generate_series(1, $2) n";
    graph.sql.execute(insert, &[&number(home), &n]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_short_query_for_very_much_is_refused_soon() {
    let graph = Graph::start().await;
    let ann = graph.person().await;
    let home = graph.home(&ann).await;
    rooms(&graph, &home, 300).await;
    let exhausted = &graph.services.metrics.graphql_exhausted;
    for (n, query) in [
        "query($h: ID!) { home(id: $h) { rooms { home { rooms { home { rooms { id } } } } } } }",
        "query($h: ID!) { home(id: $h) { rooms { home { rooms { devices { id } } } } } }",
        "query($h: ID!) { home(id: $h) { rooms { home { devices(first: 200) { nodes { id } } } } } }",
    ]
    .into_iter()
    .enumerate()
    {
        let started = Instant::now();
        let answer = graph.answer(&ann, query, json!({"h": home})).await;
        let extensions = &answer["errors"][0]["extensions"];
        assert_eq!(extensions, &json!({"code": "BAD_USER_INPUT", "field": "query"}), "{query}");
        // Unbounded it would go on for hours.
        assert!(started.elapsed() < Duration::from_secs(60), "{query}: {:?}", started.elapsed());
        assert_eq!(exhausted.get(), n as u64 + 1, "{query}");
    }
    // A home's devices ask for what is there, not for what the page could hold.
    let query = "query($h: ID!) { home(id: $h) { rooms { home { devices(first: 100) { nodes { id } } } } } }";
    graph.ask(&ann, query, json!({"h": home})).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_event_of_a_subscription_has_a_budget_of_its_own() {
    let graph = Graph::start().await;
    let ann = graph.person().await;
    let home = graph.home(&ann).await;
    graph.devices(&ann, &home, 3).await;
    rooms(&graph, &home, 150).await;
    let status = "subscription($h: ID) { deviceStatus(homeId: $h) { home { rooms { home { rooms { id } } } } } }";
    let mut events = live::subscribe(&graph, &ann, status, json!({"h": home}));
    for _ in 0..3 {
        let event = live::next(&mut events).await.unwrap();
        assert!(event.get("errors").is_none(), "{event}");
    }
}
