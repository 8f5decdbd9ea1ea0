//! No stream ends because the database is unavailable for a while.

use std::collections::HashSet;

use serde_json::{Value, json};

use super::support::app::{Database, TestApp};
use super::support::proxy::Mode;
use super::support::user::{Device, User};
use super::support::ws::{Frame, Subscription};
use super::support::{eventually, soon};

/// More than a hub holds for a slow subscriber.
const CHANGES: usize = 300;
const TELEMETRY: &str = "subscription($id: ID) { telemetry(homeId: $id) { extra device { room { name } } } }";
const STATES: &str = "subscription($id: ID) { deviceStatus(homeId: $id) { key firmwareVersion room { name } } }";
const COMMANDS: &str = "subscription($id: ID) { commandUpdates(homeId: $id) { id device { room { name } } } }";
const CONFIGS: &str = "subscription($id: ID) { configUpdates(homeId: $id) { version device { room { name } } } }";

/// The next event; one whose room could not be read counts. Fails the test when the stream ends.
async fn event(stream: &mut Subscription) -> Value {
    match stream.frame().await {
        Frame::Json(mut message) if message["type"] == "next" && message["payload"]["data"].is_object() => {
            message["payload"]["data"].take()
        }
        other => panic!("the stream ended: {other:?}"),
    }
}

async fn send_commands(owner: &User, devices: &[Device]) -> HashSet<String> {
    let send = "mutation($id: ID!) { sendCommand(input: {deviceId: $id, type: \"BEEP\"}) { id } }";
    let mut ids = HashSet::new();
    for n in 0..CHANGES {
        let device = &devices[n % devices.len()];
        let data = owner.query(send, json!({"id": device.id})).await;
        ids.insert(data["sendCommand"]["id"].as_str().expect("an id").to_owned());
    }
    ids
}

async fn push_configs(owner: &User, device: &Device) {
    let push = "mutation($id: ID!, $config: JSON!) { pushConfig(input: {deviceId: $id, config: $config}) { version } }";
    for n in 0..CHANGES {
        owner.query(push, json!({"id": device.id, "config": {"n": n}})).await;
    }
}

async fn report(app: &TestApp, device: &Device) {
    for n in 0..CHANGES {
        app.publish(device, "telemetry", format!(r#"{{"sensors":{{"n":{n}}}}}"#)).await;
    }
    let stored = &app.app().services().metrics.mqtt_stored;
    eventually("all readings are stored", || std::future::ready((stored.get() >= CHANGES as u64).then_some(()))).await;
}

async fn move_to_room(owner: &User, home: &str, devices: &[Device]) {
    let create = "mutation($home: ID!) { createRoom(homeId: $home, name: \"Hall\") { id } }";
    let room = owner.query(create, json!({"home": home})).await["createRoom"]["id"].take();
    let update = "mutation($id: ID!, $room: ID!) { updateDevice(id: $id, input: {roomId: $room}) { id } }";
    for device in devices {
        owner.query(update, json!({"id": device.id, "room": room})).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_stream_ends_while_the_database_is_away() {
    let database = Database::create().await;
    let (proxy, url) = database.proxied().await;
    let app = TestApp::builder().set("DATABASE_URL", url).set("DATABASE_POOL_SIZE", "20").start().await;
    let (home, owner) = app.home().await;
    let mut devices = Vec::new();
    for key in ["a", "b", "c", "d"] {
        devices.push(app.device(&owner, &home, key).await);
    }
    move_to_room(&owner, &home.id, &devices).await;
    let mut streams = Vec::new();
    for query in [TELEMETRY, STATES, COMMANDS, CONFIGS] {
        streams.push(owner.subscribe(query, json!({"id": home.id})).await);
    }
    let running = &app.app().services().metrics.subscriptions;
    eventually("all streams run", || std::future::ready((running.get() == 4).then_some(()))).await;
    let [mut readings, mut states, mut commands, mut configs] = <[_; 4]>::try_from(streams).ok().expect("four");
    for device in &devices {
        assert_eq!(event(&mut states).await["deviceStatus"]["key"], device.key, "the present states come first");
    }

    // While rooms are locked, each event waits for its room, so the hubs drop events.
    let locker = database.client().await;
    locker.batch_execute("begin; lock table rooms").await.expect("the lock");
    let ((), sent, ()) =
        tokio::join!(report(&app, &devices[0]), send_commands(&owner, &devices), push_configs(&owner, &devices[1]));

    proxy.set(Mode::Cut);
    // Each query waits for a connection as long as a stream does.
    for _ in 0..2 {
        assert_eq!(owner.error_code("{ homes { id } }", json!({})).await, "UNAVAILABLE");
    }
    locker.batch_execute("rollback").await.expect("unlocked");
    proxy.set(Mode::Pass);

    for n in 0..CHANGES {
        assert_eq!(event(&mut readings).await["telemetry"]["extra"]["n"], json!(n), "neither a gap nor a repeat");
    }
    let mut missing = sent;
    while !missing.is_empty() {
        let id = event(&mut commands).await["commandUpdates"]["id"].take();
        missing.remove(id.as_str().expect("an id"));
    }
    while event(&mut configs).await["configUpdates"]["version"] != json!(CHANGES) {}
    app.publish(&devices[2], "status", r#"{"online":true,"status":{"firmwareVersion":"last"}}"#).await;
    let last = async { while event(&mut states).await["deviceStatus"]["firmwareVersion"] != "last" {} };
    soon("the state after the outage", last).await;
    let metrics = &app.app().services().metrics;
    assert_eq!((metrics.subscriptions.get(), metrics.subscriptions_lagged.get()), (4, 0));
    assert!(metrics.subscription_catch_ups.get() > 0, "the streams fell behind");
}
