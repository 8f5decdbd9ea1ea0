//! `Device.state`: what a device last reported itself to be.

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};

use super::support::app::TestApp;
use super::support::until;
use super::support::user::{Device, User};

const STATE: &str = "query($id: ID!) { device(id: $id) { online state { reported reportedAt } } }";

async fn state(owner: &User, device: &Device) -> Value {
    owner.query(STATE, json!({"id": device.id})).await["device"].take()
}

/// Publishes a status and waits until it is stored; returns the device's state then.
async fn after(app: &TestApp, owner: &User, device: &Device, status: Value) -> Value {
    let stored = app.app().services().metrics.mqtt_stored.clone();
    let before = stored.get();
    app.publish(device, "status", status.to_string()).await;
    until("the status is stored", || stored.get() > before).await;
    state(owner, device).await["state"].take()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_status_replaces_the_state_and_a_last_will_does_not() {
    let app = TestApp::start().await;
    let (home, owner) = app.home().await;
    let device = app.device(&owner, &home, "lamp").await;
    assert_eq!(state(&owner, &device).await, json!({"online": false, "state": null}));

    // The fields of `status` and those beside it, without what other fields of the device tell.
    let full = json!({
        "timestamp": "2026-02-13T12:00:00Z", "deviceId": "lamp", "online": true, "relay": "on", "errors": [],
        "status": {"power": true, "brightness": 80, "color": {"hue": 30}, "batteryLevel": 85, "wifiSignal": -45,
            "firmwareVersion": "v2", "uptime": 7},
    });
    let reported = after(&app, &owner, &device, full).await;
    let expected = json!({"power": true, "brightness": 80, "color": {"hue": 30}, "uptime": 7, "relay": "on"});
    assert_eq!(reported, json!({"reported": expected, "reportedAt": "2026-02-13T12:00:00.000000Z"}));

    // It says nothing of the lamp, whatever it holds.
    let will = json!({"online": false, "status": {"power": false}});
    assert_eq!(after(&app, &owner, &device, will).await, reported);
    assert_eq!(state(&owner, &device).await["online"], false);
    // Neither does a status without a field of the state.
    let health = json!({"online": true, "status": {"batteryLevel": 84}, "errors": ["E1"]});
    assert_eq!(after(&app, &owner, &device, health).await, reported);
    assert_eq!(state(&owner, &device).await["online"], true);

    let off = after(&app, &owner, &device, json!({"online": true, "status": {"power": false}})).await;
    assert_eq!(off["reported"], json!({"power": false}), "the whole state is replaced");
    let reported_at: DateTime<Utc> = off["reportedAt"].as_str().unwrap().parse().unwrap();
    assert!(
        (app.clock().now() - reported_at).abs() < TimeDelta::minutes(1),
        "without a clock the time of receipt: {off}"
    );

    // Neither a heartbeat nor a reading changes it.
    app.publish(&device, "heartbeat", r#"{"power":true}"#).await;
    let reading = json!({"sensors": {"temperature": 20}, "metadata": {"power": true}});
    app.publish(&device, "telemetry", reading.to_string()).await;
    until("all are stored", || app.app().services().metrics.mqtt_stored.get() == 6).await;
    assert_eq!(state(&owner, &device).await["state"], off);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_late_status_does_not_replace_a_newer_one() {
    let app = TestApp::start().await;
    let (home, owner) = app.home().await;
    let device = app.device(&owner, &home, "lamp").await;
    let status = |at: &str, n: u32| json!({"timestamp": at, "online": true, "status": {"n": n}});
    let (first, second) = ("2026-02-13T12:00:00Z", "2026-02-13T12:05:00Z");
    let newest = after(&app, &owner, &device, status(second, 2)).await;
    assert_eq!(newest["reported"]["n"], 2);
    assert_eq!(after(&app, &owner, &device, status(first, 1)).await, newest);
    assert_eq!(after(&app, &owner, &device, status(second, 3)).await["reported"]["n"], 3, "of equal ones the last");

    // A retained status may be of any age, unless it says when it was made.
    let topic = device.topic("status");
    let retained = |status: Value| {
        let (app, topic) = (&app, &topic);
        async move { app.mqtt().await.publish_retained(topic, status.to_string()).await.expect("published") }
    };
    let stored = app.app().services().metrics.mqtt_stored.clone();
    retained(json!({"online": true, "status": {"n": 4}})).await;
    // The broker forwards it as a message of now, and as a retained one to whoever subscribes later.
    until("it is stored", || stored.get() == 4).await;
    assert_eq!(state(&owner, &device).await["state"]["reported"]["n"], 4);

    // A clock that is ahead of the server's: the status was made before it was received.
    let ahead = (app.clock().now() + TimeDelta::minutes(4)).to_rfc3339();
    let reported = after(&app, &owner, &device, status(&ahead, 5)).await;
    assert_eq!(reported["reported"]["n"], 5);
    let reported_at: DateTime<Utc> = reported["reportedAt"].as_str().unwrap().parse().unwrap();
    assert!((app.clock().now() - reported_at).abs() < TimeDelta::minutes(1), "{reported}");
    assert_eq!(after(&app, &owner, &device, status(&app.clock().now().to_rfc3339(), 6)).await["reported"]["n"], 6);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_state_is_kept_whole_or_not_at_all() {
    let app = TestApp::start().await;
    let (home, owner) = app.home().await;
    let device = app.device(&owner, &home, "lamp").await;
    let status = |text: String| json!({"online": true, "status": {"a": "x", "text": text}});
    // {"a":"x","text":"…"} has 19 bytes beside the text.
    let largest = after(&app, &owner, &device, status("y".repeat(8 * 1024 - 19))).await;
    assert_eq!(largest["reported"]["text"].as_str().map(str::len), Some(8 * 1024 - 19));
    assert_eq!(app.metric("readings_dropped_total"), 0.0);
    assert_eq!(after(&app, &owner, &device, status("z".repeat(8 * 1024 - 18))).await, largest);
    assert_eq!(app.metric("readings_dropped_total"), 2.0, "both fields are counted");
    let metadata = "query($id: ID!) { device(id: $id) { online metadata } }";
    let shown = owner.query(metadata, json!({"id": device.id})).await["device"].take();
    assert_eq!(shown["online"], true);
    assert_eq!(shown["metadata"]["lastStatus"]["status"]["a"], "x", "the message itself is stored");
}

/// The state in every place where a client may select it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_state_is_in_lists_and_in_live_events() {
    let app = TestApp::start().await;
    let (home, owner) = app.home().await;
    let device = app.device(&owner, &home, "lamp").await;
    let create = "mutation($home: ID!) { createRoom(input: {homeId: $home, name: \"Hall\"}) { id } }";
    let room = owner.query(create, json!({"home": home.id})).await["createRoom"]["id"].take();
    let update = "mutation($id: ID!, $room: ID) { updateDevice(input: {id: $id, roomId: $room}) { id } }";
    owner.query(update, json!({"id": device.id, "room": room})).await;

    let live = "subscription($home: ID) { deviceStatus(homeId: $home) { state { reported } } }";
    let mut states = owner.subscribe(live, json!({"home": home.id})).await;
    assert_eq!(states.next().await["deviceStatus"]["state"], Value::Null);
    let live = "subscription($home: ID) { telemetry(homeId: $home) { device { key state { reported } } } }";
    let mut readings = owner.subscribe(live, json!({"home": home.id})).await;

    let on = json!({"reported": {"power": true}});
    app.publish(&device, "status", r#"{"online":true,"status":{"power":true}}"#).await;
    assert_eq!(states.next().await["deviceStatus"]["state"], on);
    app.publish(&device, "status", r#"{"online":false}"#).await;
    assert_eq!(states.next().await["deviceStatus"]["state"], on);
    app.publish(&device, "telemetry", r#"{"sensors":{"temperature":20}}"#).await;
    assert_eq!(readings.next().await["telemetry"]["device"]["state"], on);

    let lists = "query($home: ID!) { home(id: $home) {
        page: devices { nodes { state { reported } } }
        latest: devices { nodes { latestTelemetry { id } state { reported } } }
        rooms { devices { state { reported } } }
    } }";
    let lists = owner.query(lists, json!({"home": home.id})).await["home"].take();
    assert_eq!(lists["page"]["nodes"][0]["state"], on);
    assert_eq!(lists["latest"]["nodes"][0]["state"], on);
    assert_eq!(lists["rooms"][0]["devices"][0]["state"], on);
}
