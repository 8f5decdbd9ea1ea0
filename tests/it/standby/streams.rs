//! Streams of API clients: live events flow only at the server that ingests, so no stream stays open elsewhere.

use serde_json::json;

use super::super::outages::report;
use super::super::support::app::TestApp;
use super::super::support::ws::{Frame, Subscription};
use super::super::support::{eventually, soon};
use super::{HOLDER, beside, ingests, waits};

const STREAMS: [&str; 4] = [
    "subscription($id: ID) { telemetry(homeId: $id) { extra } }",
    "subscription($id: ID) { deviceStatus(homeId: $id) { key } }",
    "subscription($id: ID) { commandUpdates(homeId: $id) { type } }",
    "subscription($id: ID) { configUpdates(homeId: $id) { config } }",
];

/// Waits for the error that ends a stream.
async fn is_ended(stream: &mut Subscription) {
    loop {
        match soon("the error", stream.frame()).await {
            Frame::Json(message) if message.to_string().contains("\"UNAVAILABLE\"") => {
                assert!(message.to_string().contains("standby"), "{message}");
                return;
            }
            Frame::Json(message) if message["type"] == "next" => {}
            other => panic!("not the error: {other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_stream_stays_open_at_a_server_on_standby() {
    let first = TestApp::start().await;
    let (home, owner) = first.home().await;
    let device = first.device(&owner, &home, "a").await;
    let mqtt = first.another_mqtt().await;
    ingests(&first.app().services().metrics).await;
    let second = beside(&first).second(&first).await;
    let there = owner.at(second.http_addr());
    waits(&second.services().metrics).await;
    let id = json!({"id": home.id});
    for query in STREAMS {
        is_ended(&mut there.subscribe(query, id.clone()).await).await;
    }

    let mut streams = Vec::new();
    for query in STREAMS {
        streams.push(owner.subscribe(query, id.clone()).await);
    }
    report(&mqtt, &device, 0).await;
    assert_eq!(streams[0].next().await["telemetry"]["extra"]["n"], 0);
    let sql = first.database().client().await;
    let pid: i32 = eventually("a server ingests", || async { sql.query_opt(HOLDER, &[]).await.ok()? }).await.get(0);
    sql.execute("select pg_terminate_backend($1)", &[&pid]).await.expect("terminated");
    ingests(&second.services().metrics).await;
    for stream in &mut streams {
        is_ended(stream).await;
    }

    let mut stream = there.subscribe(STREAMS[0], id.clone()).await;
    report(&mqtt, &device, 1).await;
    assert_eq!(stream.next().await["telemetry"]["extra"]["n"], 1);
    second.stop().await;
    first.stop().await;
}
