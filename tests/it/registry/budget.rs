//! The budget of an operation: objects and bytes.

use std::time::{Duration, Instant};

use serde_json::json;

use super::{Graph, live, number};

async fn rooms(graph: &Graph, home: &str, n: i32) {
    let insert = "insert into rooms (home_id, name) select $1, 'Room ' || n from generate_series(1, $2) n";
    graph.sql.execute(insert, &[&number(home), &n]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_short_query_for_too_many_objects_is_stopped_early() {
    let graph = Graph::start().await;
    let ann = graph.person().await;
    let home = graph.home(&ann).await;
    rooms(&graph, &home, 300).await;
    let exhausted = &graph.services.metrics.graphql_budget_exhausted;
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
        // Without the budget it would run for hours.
        assert!(started.elapsed() < Duration::from_secs(60), "{query}: {:?}", started.elapsed());
        assert_eq!(exhausted.get(), n as u64 + 1, "{query}");
    }
    // A page is charged by the devices that it holds, not by its size.
    let query = "query($h: ID!) { home(id: $h) { rooms { home { devices(first: 100) { nodes { id } } } } } }";
    graph.ask(&ann, query, json!({"h": home})).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_event_of_a_subscription_has_its_own_budget() {
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

/// Inserts readings of a device with this `extra`.
async fn readings(graph: &Graph, home: &str, device: &str, n: i32, extra: &str) {
    let insert = "insert into telemetry (home_id, device_id, recorded_at, received_at, dedup, device_clock, extra) \
                  select $1, $2, '2026-01-01Z'::timestamptz + make_interval(mins => n), now(), n, true, $4::text::jsonb \
                  from generate_series(1, $3) n";
    graph.sql.execute(insert, &[&number(home), &number(device), &n, &extra]).await.unwrap();
}

/// The peak memory of this process, in MiB.
fn peak_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
}

#[tokio::test(flavor = "multi_thread")]
async fn a_simple_query_for_too_many_bytes_is_stopped_before_they_are_in_memory() {
    let graph = Graph::start().await;
    let ann = graph.person().await;
    let home = graph.home(&ann).await;
    let devices = graph.devices(&ann, &home, 30).await;
    let long = json!({"text": "x".repeat(16_000)}).to_string();
    for device in &devices {
        readings(&graph, &home, device, 450, &long).await;
    }
    let states = "insert into device_states (device_id, metadata) select id, $1::text::jsonb from devices \
                  on conflict (device_id) do update set metadata = excluded.metadata";
    graph.sql.execute(states, &[&json!({"lastStatus": "x".repeat(60_000)}).to_string()]).await.unwrap();
    let (before, exhausted) = (peak_mib(), &graph.services.metrics.graphql_budget_exhausted);
    let metadata: String = (0..30).map(|n| format!("a{n}: metadata ")).collect();
    for (n, (what, query)) in [
        // 200 MB of rows, but little of them in the response.
        (
            "rows",
            "query($h: ID!) { devices(homeId: $h, first: 30) { nodes { telemetry(first: 450) { nodes { firmwareVersion } } } } }",
        ),
        // 1.8 MB of rows that are thirty times in the response.
        ("aliases", &format!("query($h: ID!) {{ devices(homeId: $h, first: 30) {{ nodes {{ {metadata} }} }} }}")),
    ]
    .into_iter()
    .enumerate()
    {
        let answer = graph.answer(&ann, query, json!({"h": home})).await;
        let extensions = &answer["errors"][0]["extensions"];
        assert_eq!(extensions, &json!({"code": "PAYLOAD_TOO_LARGE", "field": "query"}), "{what}");
        assert_eq!(answer["errors"].as_array().map(Vec::len), Some(1), "{what}");
        assert_eq!(exhausted.get(), n as u64 + 1, "{what}");
    }
    // Parsed JSON takes more memory than its text: 7 MB of text become about a hundred times as much.
    let dense = json!({"list": vec![1; 8_000]}).to_string();
    let device = &graph.devices(&ann, &graph.home(&ann).await, 1).await[0];
    let of = graph.sql.query_one("select home_id from devices where id = $1", &[&number(device)]).await.unwrap();
    readings(&graph, &of.get::<_, i64>(0).to_string(), device, 450, &dense).await;
    let query = "query($d: ID!) { device(id: $d) { telemetry(first: 450) { nodes { extra } } } }";
    assert_eq!(graph.code(&ann, query, json!({"d": device})).await, "PAYLOAD_TOO_LARGE");
    let grown = peak_mib() - before;
    assert!(grown < 150, "{grown} MiB");
    // A page of a usual size is within the budget.
    let query = "query($d: ID!) { device(id: $d) { telemetry(first: 20) { nodes { extra } } } }";
    graph.ask(&ann, query, json!({"d": device})).await;
}
