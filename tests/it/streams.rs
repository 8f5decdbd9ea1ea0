//! Subscriptions deliver events after their commit, in the order of commits, and resume without a gap or a repeat.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::support::app::TestApp;
use super::support::user::Device;
use super::support::ws::Frame;
use super::support::{rng, soon, until};

const TELEMETRY: &str = "subscription($home: ID, $device: ID, $after: ID) { \
     telemetry(homeId: $home, deviceId: $device, after: $after) { id extra device { key } } }";

async fn report(app: &TestApp, device: &Device, n: u64) {
    app.publish(device, "telemetry", format!(r#"{{"sensors":{{"n":{n}}}}}"#)).await;
}

fn number(event: &Value) -> u64 {
    event["telemetry"]["extra"]["n"].as_u64().expect("our number")
}

fn id(event: &Value) -> String {
    event["telemetry"]["id"].as_str().expect("an id").to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscriber_receives_committed_readings_of_its_home_only() {
    let app = TestApp::start().await;
    let (home, owner) = app.home().await;
    let (other_home, stranger) = app.home().await;
    let (mine, theirs) = (app.device(&owner, &home, "a").await, app.device(&stranger, &other_home, "b").await);
    let mut live = app.subscribe(&owner, TELEMETRY, json!({"home": home.id})).await;
    let client = app.database().client().await;
    for n in 0..20 {
        report(&app, &theirs, 1_000 + n).await;
        report(&app, &mine, n).await;
        let event = live.next().await;
        assert_eq!((number(&event), event["telemetry"]["device"]["key"].as_str()), (n, Some("a")));
        let id: i64 = id(&event).parse().expect("a number");
        let row = client.query_one("select count(*) from telemetry where id = $1", &[&id]).await.expect("a count");
        assert_eq!(row.get::<_, i64>(0), 1, "the event came after its commit");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscription_resumes_without_a_gap_or_a_repeat_during_writes() {
    const MESSAGES: u64 = 1_500;
    let app = Arc::new(TestApp::start().await);
    let (home, owner) = app.home().await;
    let device = app.device(&owner, &home, "a").await;
    report(&app, &device, 0).await;
    let stored = app.app().services().metrics.mqtt_stored.clone();
    until("the first is stored", || stored.get() == 1).await;
    let mut live = app.subscribe(&owner, TELEMETRY, json!({"home": home.id, "after": "1"})).await;
    let writer = {
        let (app, device) = (app.clone(), device.clone());
        tokio::spawn(async move {
            for n in 1..MESSAGES {
                report(&app, &device, n).await;
            }
        })
    };
    // Ids start at 1: the reading stored first.
    let mut rng = rng();
    let mut seen = Vec::new();
    let mut last = "1".to_owned();
    while seen.last() != Some(&(MESSAGES - 1)) {
        // Unsubscribes at a random moment and resumes from the last id.
        for _ in 0..rng.u32(1..200) {
            let event = live.next().await;
            (last, _) = (id(&event), seen.push(number(&event)));
            if seen.last() == Some(&(MESSAGES - 1)) {
                break;
            }
        }
        live = owner.subscribe(TELEMETRY, json!({"home": home.id, "after": last})).await;
    }
    writer.await.expect("the writer ends");
    assert_eq!(seen, (1..MESSAGES).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_subscriber_delays_no_other_and_receives_no_gap() {
    const MESSAGES: u64 = 3_000;
    let app = TestApp::start().await;
    let (home, owner) = app.home().await;
    let device = app.device(&owner, &home, "a").await;
    let slow = app.subscribe(&owner, TELEMETRY, json!({"device": device.id})).await;
    let mut quick = app.subscribe(&owner, TELEMETRY, json!({"device": device.id})).await;
    // More than the hub's channel and the socket's buffers hold, in one burst of committed batches.
    let mqtt = app.mqtt().await;
    let topic = device.topic("telemetry");
    let padding = "x".repeat(4_000);
    let publishing = async {
        for n in 0..MESSAGES {
            let payload = format!(r#"{{"sensors":{{"n":{n},"padding":"{padding}"}}}}"#);
            mqtt.publish(&topic, payload).await.expect("PUBACK");
        }
    };
    let reading = async {
        for n in 0..MESSAGES {
            assert_eq!(number(&quick.next().await), n);
        }
    };
    tokio::time::timeout(Duration::from_secs(60), async { tokio::join!(publishing, reading) })
        .await
        .expect("the quick subscriber is not delayed");
    // The slow one reads now: events in order without a gap, until the server cut it as a slow peer or it lagged too
    // far. `registry/live.rs` has the catch-up without a socket.
    let (mut slow, mut n_received) = (slow, 0);
    while n_received < MESSAGES {
        match slow.frame().await {
            Frame::Json(message) if message["type"] == "next" => {
                assert_eq!(number(&message["payload"]["data"]), n_received);
                n_received += 1;
            }
            Frame::Json(message) => {
                assert!(message.to_string().contains("LAGGED"), "{message}");
                break;
            }
            Frame::Closed(..) | Frame::Cut => break,
        }
    }
    assert!(n_received > 0, "events were sent before the subscriber was cut");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn presence_follows_status_last_will_and_silence() {
    const STATUS: &str =
        "subscription($home: ID) { deviceStatus(homeId: $home) { key online firmwareVersion metadata } }";
    let app = TestApp::builder().set("PRESENCE_TIMEOUT_SECONDS", "2").start().await;
    let (home, owner) = app.home().await;
    let device = app.device(&owner, &home, "a").await;
    let mut live = app.subscribe(&owner, STATUS, json!({"home": home.id})).await;
    assert_eq!(live.next().await["deviceStatus"]["online"], false, "the present state comes first");

    report(&app, &device, 1).await;
    assert_eq!(live.next().await["deviceStatus"]["online"], true, "any telemetry makes the device present");
    assert_eq!(live.next().await["deviceStatus"]["online"], false, "silence for the time-out");

    let status = r#"{"online":true,"status":{"firmwareVersion":"v3"},"errors":["E1"]}"#;
    app.publish(&device, "status", status).await;
    let event = live.next().await;
    assert_eq!(event["deviceStatus"]["firmwareVersion"], "v3");
    assert_eq!(event["deviceStatus"]["metadata"]["lastStatus"]["errors"], json!(["E1"]));
    app.publish(&device, "status", r#"{"online":false}"#).await;
    assert_eq!(live.next().await["deviceStatus"]["online"], false, "its Last Will");
    app.publish(&device, "heartbeat", r#"{"uptime":1,"wifiSignal":-60}"#).await;
    assert_eq!(live.next().await["deviceStatus"]["online"], true, "a heartbeat");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn subscriptions_end_with_their_home_and_release_everything() {
    let app = TestApp::start().await;
    let (home, owner) = app.home().await;
    let (kept, _) = (owner.home().await, ());
    let mut ending = app.subscribe(&owner, TELEMETRY, json!({"home": home.id})).await;
    let staying = app.subscribe(&owner, TELEMETRY, json!({"home": kept.id})).await;
    owner.query("mutation($id: ID!) { deleteHome(id: $id) }", json!({"id": home.id})).await;
    let end = soon("the stream's end", ending.frame()).await;
    let Frame::Json(end) = end else { panic!("{end:?}") };
    assert_eq!(end["payload"][0]["extensions"]["code"], "NOT_FOUND", "{end}");
    drop(staying);
    let running = &app.app().services().metrics.subscriptions;
    until("no subscription is left", || running.get() == 0).await;
}
