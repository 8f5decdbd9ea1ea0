//! The rate limit of a device: a flood costs its sender and no other device, and a backlog is no flood.

use std::sync::Arc;

use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio_postgres::Client;

use super::support::app::{Database, TestApp};
use super::support::broker::Broker;
use super::support::mqtt::Mqtt;
use super::support::server::Server;
use super::support::user::{Device, User};
use super::support::{eventually, until};

const LIMITS: [(&str, &str); 3] = [("RATE_LIMITS", "on"), ("DEVICE_RATE_LIMIT", "20"), ("DEVICE_BURST", "200")];
const STATE: &str = "query($id: ID!) { device(id: $id) { online shedMessages lastShedAt } }";

/// Publishes numbered readings as fast as the broker takes them; all are acknowledged at the end.
async fn publish(mqtt: &Arc<Mqtt>, device: &Device, n: usize, timestamp: Option<&str>) {
    const WINDOW: u32 = 500;
    let window = Arc::new(Semaphore::new(WINDOW as usize));
    for i in 0..n {
        let permit = window.clone().acquire_owned().await.expect("open");
        let (mqtt, topic) = (mqtt.clone(), device.topic("telemetry"));
        let payload = json!({"timestamp": timestamp, "sensors": {"n": i}}).to_string();
        tokio::spawn(async move {
            mqtt.publish(&topic, payload).await.expect("PUBACK");
            drop(permit);
        });
    }
    let _all = window.acquire_many(WINDOW).await.expect("open");
}

/// The device's rows, and how many different numbers they have.
async fn rows(client: &Client, device: &Device) -> (i64, i64) {
    let id: i64 = device.id.parse().expect("an id");
    let count = "select count(*), count(distinct extra->>'n') from telemetry where device_id = $1";
    let row = client.query_one(count, &[&id]).await.expect("a count");
    (row.get(0), row.get(1))
}

async fn state(user: &User, device: &Device) -> Value {
    user.query(STATE, json!({"id": device.id})).await["device"].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_is_dropped_counted_and_reported_and_costs_no_other_device() {
    const FLOOD: usize = 5_000;
    const OTHERS: usize = 150;
    let builder = || LIMITS.iter().fold(TestApp::builder(), |builder, (name, value)| builder.set(name, *value));
    let app = builder().start().await;
    let (home, owner) = app.home().await;
    let flooder = app.device(&owner, &home, "flooder").await;
    let others = [app.device(&owner, &home, "b").await, app.device(&owner, &home, "c").await];
    let listener = app.another_mqtt().await;
    listener.subscribe(&flooder.topic("commands")).await.expect("SUBACK");
    let send = "mutation($id: ID!) { sendCommand(input: {deviceId: $id, type: \"SET_POWER\", payload: {power: true}}) \
                { id } }";
    let command = owner.query(send, json!({"id": flooder.id})).await["sendCommand"]["id"].clone();
    let query = "query($id: ID!) { device(id: $id) { commands { nodes { id status } } } }";
    let status = || async {
        let device = owner.query(query, json!({"id": flooder.id})).await;
        device["device"]["commands"]["nodes"][0]["status"].as_str().map(str::to_owned)
    };
    eventually("the command is sent", || async { status().await.filter(|status| status == "SENT") }).await;

    let (loud, quiet) = (Arc::new(app.another_mqtt().await), Arc::new(app.another_mqtt().await));
    // Without a clock, so that each message of the flood could be a reading of its own.
    let flood = async {
        publish(&loud, &flooder, FLOOD, None).await;
        let answer = json!({"commandId": command, "status": "SUCCEEDED"}).to_string();
        loud.publish(&flooder.topic("ack"), answer).await.expect("PUBACK");
        publish(&loud, &flooder, FLOOD, None).await;
        loud.publish(&flooder.topic("status"), r#"{"online":false}"#).await.expect("PUBACK");
    };
    let usual = async {
        publish(&quiet, &others[0], OTHERS, None).await;
        publish(&quiet, &others[1], OTHERS, None).await;
    };
    tokio::join!(flood, usual);

    let metrics = app.app().services().metrics.clone();
    until("received = stored + duplicate + rejected", || {
        let done = metrics.mqtt_stored.get() + metrics.mqtt_duplicate.get() + metrics.mqtt_rejected_total.get();
        metrics.mqtt_received.get() == done && done as usize >= 2 * FLOOD
    })
    .await;
    let client = app.database().client().await;
    for other in &others {
        assert_eq!(rows(&client, other).await, (150, 150));
        assert_eq!(state(&owner, other).await, json!({"online": true, "shedMessages": 0, "lastShedAt": null}));
    }
    assert_eq!(status().await.as_deref(), Some("SUCCEEDED"), "a flood hides no answer");
    let (stored, _) = rows(&client, &flooder).await;
    assert!((200..1_000).contains(&stored), "{stored} of the flood are stored");
    let seen = state(&owner, &flooder).await;
    assert_eq!(seen["shedMessages"].as_i64(), Some(2 * FLOOD as i64 - stored), "every message is counted");
    assert_eq!(metrics.mqtt_rejected_total.get(), 2 * FLOOD as u64 - stored as u64);
    assert!(seen["lastShedAt"].is_string());
    assert_eq!(seen["online"], false, "a flood hides no offline status");
    let rejected = "query($id: ID!) { rejectedMessages(homeId: $id) { nodes { reason topic } } }";
    let rejected = owner.query(rejected, json!({"id": home.id})).await["rejectedMessages"]["nodes"].clone();
    let one = json!({"reason": "RATE_LIMITED", "topic": flooder.topic("telemetry")});
    assert!(
        matches!(rejected.as_array().expect("nodes").as_slice(), [first, rest @ ..]
        if *first == one && rest.len() <= 1),
        "one a minute: {rejected}"
    );

    // The count outlives a restart.
    let app = builder().start_on(app.stop().await).await;
    assert_eq!(state(&owner.at(app.addr()), &flooder).await, seen);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backlog_is_stored_completely_across_kills_of_the_server() {
    const BACKLOG: usize = 10_000;
    let (database, broker) = (Database::create().await, Broker::start().await);
    let mut server =
        Server::start(&database.url(), broker.port(), &[&LIMITS[..], &[("REGISTRATION", "open")]].concat()).await;
    let owner = User::register(server.addr()).await;
    let home = owner.home().await;
    let quiet = owner.device(server.prefix(), &home, "quiet").await;
    let loud = owner.device(server.prefix(), &home, "loud").await;
    let mqtt = Arc::new(Mqtt::connect(broker.port()).await);
    for device in [&quiet, &loud] {
        publish(&mqtt, device, 1, None).await;
    }
    let client = database.client().await;
    let both = || async { (rows(&client, &quiet).await.0 + rows(&client, &loud).await.0 == 2).then_some(()) };
    eventually("both are stored", both).await;
    assert!(server.stop().await.success());

    // As if an hour had passed, in which a device gathers this many messages at three a second.
    let hour_ago = "update device_states set last_seen_at = last_seen_at - interval '1 hour'";
    client.execute(hour_ago, &[]).await.expect("updated");
    let row = client.query_one("select to_json(now())::text", &[]).await.expect("a time");
    let now: String = serde_json::from_str(row.get(0)).expect("text");
    // One sends the messages of the hour; the other floods, and its clock shows that they are new.
    tokio::join!(publish(&mqtt, &quiet, BACKLOG, None), publish(&mqtt, &loud, BACKLOG, Some(&now)));

    server.restart().await;
    eventually("some of it is stored", || async { (rows(&client, &quiet).await.0 > 1).then_some(()) }).await;
    server.kill();
    server.restart().await;
    let all = i64::try_from(BACKLOG).expect("small") + 1;
    eventually("all of it is stored", || async { (rows(&client, &quiet).await.0 >= all).then_some(()) }).await;
    // Number 0 was sent before the restart and again in the backlog.
    assert_eq!(rows(&client, &quiet).await, (all, all - 1), "nothing is lost, nothing is stored twice");
    assert_eq!(state(&owner, &quiet).await["shedMessages"], 0);
    let accounted = || async {
        let (stored, counted) = (rows(&client, &loud).await.0, state(&owner, &loud).await["shedMessages"].as_i64()?);
        (stored + counted == all).then_some(counted)
    };
    let counted = eventually("stored and dropped are all that was sent", accounted).await;
    assert!(counted > all / 2, "{counted} of a flood of {all} are dropped");
}
