//! Limits on what users and devices store, which the operator sets and users see before they are reached.

use chrono::TimeDelta;
use serde_json::{Value, json};
use tokio_postgres::Client;

use super::support::app::{Builder, TestApp};
use super::support::user::{Device, User};
use super::support::{eventually, until};

const STORAGE: &str = "query($id: ID!) { device(id: $id) { online shedMessages storageToday { usedKib limitKib } } }";
const REJECTED: &str = "query($id: ID!) { rejectedMessages(homeId: $id) { nodes { reason topic } } }";
const QUOTA: &str = "{ me { homesOwned homesLimit } }";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_operator_sets_how_many_homes_a_user_owns_and_users_see_it() {
    let app = TestApp::builder().set("HOMES_PER_USER", "2").start().await;
    let user = app.user().await;
    let expected = |n: usize| json!({"homesOwned": n, "homesLimit": 2});
    for n in 0..2 {
        assert_eq!(user.query(QUOTA, json!({})).await["me"], expected(n));
        user.home().await;
    }
    let answer = user.post("mutation { createHome(input: {name: \"Third\"}) { id } }", json!({})).await.json();
    assert_eq!(answer["errors"][0]["extensions"]["code"], "CONFLICT");
    let message = answer["errors"][0]["message"].as_str().expect("a message");
    assert!(message.starts_with("you own 2 homes already") && message.contains("delete one"), "{message}");
    assert_eq!(user.query(QUOTA, json!({})).await["me"], expected(2));
}

fn one_mebibyte() -> Builder {
    TestApp::builder().set("RATE_LIMITS", "on").set("DEVICE_DAILY_MIB", "1")
}

/// Publishes a reading of 50,000 bytes.
async fn publish_reading(app: &TestApp, device: &Device, n: usize) {
    let empty = json!({"sensors": {"n": n}, "pad": ""}).to_string();
    let pad = "x".repeat(50_000 - empty.len());
    app.publish(device, "telemetry", json!({"sensors": {"n": n}, "pad": pad}).to_string()).await;
}

async fn n_stored(client: &Client, device: &Device) -> i64 {
    let id: i64 = device.id.parse().expect("an id");
    client.query_one("select count(*) from telemetry where device_id = $1", &[&id]).await.expect("a count").get(0)
}

async fn storage(user: &User, device: &Device) -> Value {
    user.query(STORAGE, json!({"id": device.id})).await["device"].take()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_stores_up_to_its_daily_limit_which_users_see_before() {
    let app = one_mebibyte().start().await;
    let (home, owner) = app.home().await;
    let (device, other) = (app.device(&owner, &home, "a").await, app.device(&owner, &home, "b").await);
    let nothing = json!({"online": false, "shedMessages": 0, "storageToday": {"usedKib": 0, "limitKib": 1_024}});
    assert_eq!(storage(&owner, &device).await, nothing);
    publish_reading(&app, &device, 0).await;
    let first = json!({"online": true, "shedMessages": 0, "storageToday": {"usedKib": 49, "limitKib": 1_024}});
    eventually("the first one counts", || async { (storage(&owner, &device).await == first).then_some(()) }).await;

    for n in 1..25 {
        publish_reading(&app, &device, n).await;
    }
    publish_reading(&app, &other, 0).await;
    app.publish(&device, "status", json!({"online": false}).to_string()).await;
    let metrics = app.app().services().metrics.clone();
    until("all are processed", || metrics.mqtt_stored.get() + metrics.mqtt_rejected_total.get() == 27).await;
    let client = app.database().client().await;
    // 20 * 50,000 bytes are 977 KiB.
    assert_eq!((n_stored(&client, &device).await, n_stored(&client, &other).await), (20, 1));
    let full = json!({"online": false, "shedMessages": 5, "storageToday": {"usedKib": 977, "limitKib": 1_024}});
    assert_eq!(storage(&owner, &device).await, full, "a status is no reading");
    let rejected = owner.query(REJECTED, json!({"id": home.id})).await["rejectedMessages"]["nodes"].take();
    assert_eq!(rejected, json!([{"reason": "DAILY_LIMIT", "topic": device.topic("telemetry")}]), "one a minute");

    let restarted = one_mebibyte().set("MQTT_TOPIC_PREFIX", app.prefix());
    let app = restarted.start_on(app.stop().await).await;
    let metrics = app.app().services().metrics.clone();
    until("it is subscribed again", || metrics.mqtt_connected.get() == 1).await;
    publish_reading(&app, &device, 25).await;
    until("a restart forgets nothing", || metrics.mqtt_rejected_total.get() == 1).await;
    app.clock().advance(TimeDelta::days(1));
    publish_reading(&app, &device, 26).await;
    until("the next day begins at zero", || metrics.mqtt_stored.get() == 1).await;
    assert_eq!(n_stored(&client, &device).await, 21);
}
