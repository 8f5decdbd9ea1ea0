//! Servers with a shared subscription, also beside or after one with a plain subscription.

use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::future::join_all;
use smarthome::app::App;

use super::super::outages::{report, stored};
use super::super::support::app::TestApp;
use super::super::support::{eventually, rng, unique, until};
use super::{beside, ingests, waits};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plain_subscription_waits_for_shared_ones() {
    let first = TestApp::builder().set("MQTT_SHARED_GROUP", "g").start().await;
    ingests(&first.app().services().metrics).await;
    let plain = beside(&first).second(&first).await;
    waits(&plain.services().metrics).await;
    let shared = beside(&first).set("MQTT_SHARED_GROUP", "g").second(&first).await;
    ingests(&shared.services().metrics).await;
    let database = first.stop().await;
    shared.stop().await;
    ingests(&plain.services().metrics).await;
    plain.stop().await;
    drop(database);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_stops_leaves_no_message_of_its_group_behind() {
    const MESSAGES: usize = 1_200;
    let first = TestApp::builder().set("MQTT_SHARED_GROUP", "g").start().await;
    let (home, owner) = first.home().await;
    let device = first.device(&owner, &home, "a").await;
    let second = beside(&first).set("MQTT_SHARED_GROUP", "g").second(&first).await;
    let stopping = second.services().metrics.clone();
    for metrics in [&first.app().services().metrics, &stopping] {
        ingests(metrics).await;
    }
    let mqtt = Arc::new(first.another_mqtt().await);
    let goal = rng().u64(50..300);
    let publisher = tokio::spawn(async move {
        let publishes = (0..MESSAGES).map(|n| {
            let (mqtt, device) = (mqtt.clone(), device.clone());
            async move { report(&mqtt, &device, n).await }
        });
        futures_util::stream::iter(publishes).buffer_unordered(40).collect::<Vec<()>>().await
    });
    until("it has stored some", || stopping.mqtt_stored.get() >= goal).await;
    second.stop().await;
    publisher.await.expect("every message is acknowledged by the broker");
    stored(first.database(), MESSAGES).await;
    first.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_with_a_plain_subscription_joins_a_group_and_receives_each_message_once() {
    let plain = TestApp::start().await;
    let (home, owner) = plain.home().await;
    let device = plain.device(&owner, &home, "a").await;
    ingests(&plain.app().services().metrics).await;
    let (client_id, prefix) = (plain.settings().mqtt.client_id.clone(), plain.prefix().to_owned());
    let (mqtt, database) = (plain.another_mqtt().await, plain.stop().await);
    report(&mqtt, &device, 0).await;

    let shared = TestApp::builder().set("MQTT_TOPIC_PREFIX", prefix).set("MQTT_CLIENT_ID", client_id);
    let shared = shared.set("MQTT_SHARED_GROUP", "g").start_on(database).await;
    ingests(&shared.app().services().metrics).await;
    for n in 1..20 {
        report(&mqtt, &device, n).await;
    }
    stored(shared.database(), 20).await;
    assert_eq!(shared.app().services().metrics.mqtt_received.get(), 20);
    shared.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_server_of_a_group_stays_subscribed() {
    const SERVERS: usize = 3;
    let prefix = unique("t");
    let builder = || TestApp::builder().set("MQTT_TOPIC_PREFIX", &prefix).set("MQTT_SHARED_GROUP", "g");
    let ids: Vec<_> = (0..SERVERS).map(|_| unique("t")).collect();
    let mut first = builder().set("MQTT_CLIENT_ID", &ids[0]).start().await;
    let (home, owner) = first.home().await;
    let device = first.device(&owner, &home, "a").await;
    ingests(&first.app().services().metrics).await;
    let mqtt = first.another_mqtt().await;
    report(&mqtt, &device, 0).await;

    // A single one.
    let database = first.stop().await;
    for n in 1..5 {
        report(&mqtt, &device, n).await;
    }
    first = builder().set("MQTT_CLIENT_ID", &ids[0]).start_on(database).await;
    stored(first.database(), 5).await;

    // All at once: one stays, whichever it is.
    let mut others = Vec::new();
    for id in &ids[1..] {
        others.push(builder().set("MQTT_CLIENT_ID", id).second(&first).await);
    }
    for metrics in others.iter().map(|other| &other.services().metrics).chain([&first.app().services().metrics]) {
        ingests(metrics).await;
    }
    until_all_joined(&first, SERVERS).await;
    let (_, database) = tokio::join!(join_all(others.into_iter().map(App::stop)), first.stop());
    let sql = database.client().await;
    let members = "select count(*) from ingest_sessions where group_prefix is not null";
    assert_eq!(sql.query_one(members, &[]).await.expect("a count").get::<_, i64>(0), 1);
    for n in 5..10 {
        report(&mqtt, &device, n).await;
    }
    first = builder().set("MQTT_CLIENT_ID", &ids[0]).start_on(database).await;
    others = Vec::new();
    for id in &ids[1..] {
        others.push(builder().set("MQTT_CLIENT_ID", id).second(&first).await);
    }
    stored(first.database(), 10).await;
    join_all(others.into_iter().map(App::stop)).await;
    first.stop().await;
}

/// Waits until each of these servers has noted that it receives a share of the messages.
pub(super) async fn until_all_joined(first: &TestApp, n: usize) {
    let sql = first.database().client().await;
    let joined = "select count(*) from ingest_sessions where group_prefix is not null";
    let n = i64::try_from(n).expect("small");
    eventually("all have joined", || async {
        (sql.query_one(joined, &[]).await.ok()?.get::<_, i64>(0) == n).then_some(())
    })
    .await;
}
