//! Retained messages from before a device was registered, which a server receives when it subscribes.

use serde_json::{Value, json};

use crate::support::app::TestApp;
use crate::support::user::{Device, User};
use crate::support::{eventually, until};

use super::{FIRST, Rig, publish_retained};

/// What a device retains. The time is that of a clock that was never set, or missing.
fn status(timestamp: Option<&str>) -> String {
    let mut status = json!({"online": true, "status": {"firmwareVersion": FIRST}});
    if let Some(timestamp) = timestamp {
        status["timestamp"] = json!(timestamp);
    }
    status.to_string()
}

async fn firmware(owner: &User, device: &Device) -> Value {
    let query = "query($d: ID!) { device(id: $d) { firmwareVersion } }";
    owner.query(query, json!({"d": device.id})).await["device"]["firmwareVersion"].take()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retained_status_counts_unless_its_device_has_never_sent_anything() {
    let app = TestApp::start().await;
    let (home, owner) = app.home().await;
    let (prefix, mqtt) = (app.prefix().to_owned(), app.another_mqtt().await);
    let mut known = Vec::new();
    for key in ["clock-at-1970", "no-clock"] {
        let device = app.device(&owner, &home, key).await;
        app.publish(&device, "heartbeat", "{}").await;
        known.push(device);
    }
    let lamp = app.device(&owner, &home, "lamp").await;
    owner.query("mutation($d: ID!) { deleteDevice(id: $d) }", json!({"d": lamp.id})).await;
    let lamp = app.device(&owner, &home, "lamp").await;
    let metrics = app.app().services().metrics.clone();
    until("the devices are known", || metrics.mqtt_stored.get() == 2).await;
    until("the deleted device is cleaned up", || metrics.broker_cleanups.get() == 1).await;
    let database = app.stop().await;
    database.forget_broker_session().await;

    // Only the next server receives these, as retained messages: it has another session.
    for (device, timestamp) in known.iter().chain([&lamp]).zip([Some("1970-01-01T00:00:07Z"), None, None]) {
        mqtt.publish_retained(&device.topic("status"), status(timestamp)).await.expect("PUBACK");
    }
    let app = TestApp::builder().set("MQTT_TOPIC_PREFIX", prefix).start_on(database).await;
    let owner = owner.at(app.addr());
    for device in &known {
        eventually("the status counts", || async { (firmware(&owner, device).await == FIRST).then_some(()) }).await;
    }
    let query = "query($h: ID!) { rejectedMessages(homeId: $h) { nodes { reason topic } } }";
    let rejected = eventually("the other one is rejected", || async {
        let nodes = owner.query(query, json!({"h": home.id})).await["rejectedMessages"]["nodes"].take();
        (nodes != json!([])).then_some(nodes)
    })
    .await;
    assert_eq!(rejected, json!([{"reason": "RETAINED", "topic": lamp.topic("status")}]));
    assert_eq!(firmware(&owner, &lamp).await, Value::Null);
    // It counts what the device sends itself.
    app.publish(&lamp, "status", status(Some("1970-01-01T00:00:07Z"))).await;
    eventually("its own status counts", || async { (firmware(&owner, &lamp).await == FIRST).then_some(()) }).await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_server_receives_nothing_of_a_deleted_device() {
    let rig = Rig::new(TestApp::start().await).await;
    let first = rig.lamp().await;
    publish_retained(rig.app.mqtt().await, &first).await;
    let metrics = rig.app.app().services().metrics.clone();
    until("all are received", || metrics.mqtt_received.get() == 4).await;
    // The retained acknowledgement has no form that the server knows.
    let before = eventually("it is rejected", || async {
        let rejected = rig.shown(&first).await["rejectedMessages"].take();
        (rejected["nodes"].as_array().map(Vec::len) == Some(1)).then_some(rejected)
    })
    .await;
    rig.delete(&first).await;
    until("the deleted device is cleaned up", || metrics.broker_cleanups.get() == 1).await;
    let second = rig.lamp().await;
    rig.app.publish(&second, "heartbeat", "{}").await;
    let Rig { app, home, owner } = rig;
    let (prefix, database) = (app.prefix().to_owned(), app.stop().await);
    database.forget_broker_session().await;
    let app = TestApp::builder().set("MQTT_TOPIC_PREFIX", prefix).start_on(database).await;
    let rig = Rig { owner: owner.at(app.addr()), app, home };
    let metrics = rig.app.app().services().metrics.clone();
    // A message that the other server receives after everything retained.
    eventually("the other server has received it", || async {
        rig.app.publish(&second, "heartbeat", "{}").await;
        (metrics.mqtt_received.get() >= 1).then_some(())
    })
    .await;
    let shown = rig.shown(&second).await;
    assert_eq!(shown["rejectedMessages"], before, "clearing is no message of a device");
    assert!(!shown["device"].to_string().contains(FIRST), "{shown}");
    let n_done = || metrics.mqtt_stored.get() + metrics.mqtt_rejected_total.get();
    until("every received message is stored or rejected", || metrics.mqtt_received.get() == n_done()).await;
    rig.app.stop().await;
}
