//! What the database holds of a device's presence and reports, where messages come close together, clocks were wrong,
//! or another server heard the device.

use std::net::SocketAddr;
use std::time::Duration;

use chrono::TimeDelta;
use futures_util::future::join_all;
use serde_json::json;
use smarthome::dev::broker::{self, Access};

use super::support::app::{Database, TestApp};
use super::support::user::Device;
use super::support::{eventually, unique, until, within};

/// Waits until the device's state fulfils an SQL condition.
async fn is(database: &Database, device: &Device, condition: &str) {
    let query = format!("select from device_states where device_id = {} and {condition}", device.id);
    let client = database.client().await;
    eventually(condition, || async { (!client.query(&query, &[]).await.ok()?.is_empty()).then_some(()) }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_was_ahead_leaves_no_silent_device_online() {
    let app = TestApp::builder().set("PRESENCE_TIMEOUT_SECONDS", "2").start().await;
    let (home, owner) = app.home().await;
    // Steps of a clock that synchronizes for the first time, and a wrong time zone.
    for seconds in [20, 180, 3_600] {
        let device = app.device(&owner, &home, &format!("d{seconds}")).await;
        app.clock().advance(TimeDelta::seconds(seconds));
        app.publish(&device, "status", r#"{"online":true}"#).await;
        is(app.database(), &device, &format!("online and last_seen_at > now() + interval '{} s'", seconds - 5)).await;
        app.clock().advance(TimeDelta::seconds(-seconds));
        is(app.database(), &device, "not online").await;
    }
    let device = app.device(&owner, &home, "back").await;
    app.clock().advance(TimeDelta::hours(1));
    app.publish(&device, "status", r#"{"online":true}"#).await;
    is(app.database(), &device, "online").await;
    app.clock().advance(TimeDelta::hours(-1));
    app.publish(&device, "status", r#"{"online":true}"#).await;
    is(app.database(), &device, "online and last_seen_at < now() + interval '1 minute'").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_that_another_server_heard_last_goes_offline_too() {
    let app = TestApp::builder().set("PRESENCE_TIMEOUT_SECONDS", "4").start().await;
    let (home, owner) = app.home().await;
    let device = app.device(&owner, &home, "a").await;
    app.publish(&device, "status", r#"{"online":true}"#).await;
    is(app.database(), &device, "online").await;
    // Another server heard the device and ended. A time-out allows 15 s for what another server has not written yet.
    let client = app.database().client().await;
    let heard = "update device_states set last_seen_at = last_seen_at + interval '17 s'";
    client.batch_execute(heard).await.expect("an update");
    let batches = app.app().services().metrics.ingest_batches.clone();
    let before = batches.get();
    until("the time-out was tried", || batches.get() > before).await;
    is(app.database(), &device, "online").await;
    is(app.database(), &device, "not online").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_values_of_a_message_right_after_another_are_the_last_reported_ones() {
    let app = TestApp::start().await;
    let (home, owner) = app.home().await;
    let device = app.device(&owner, &home, "a").await;
    app.publish(&device, "heartbeat", "{}").await;
    is(app.database(), &device, "online").await;
    for (firmware, battery) in [("1.0", 90.0), ("1.1", 89.0)] {
        let metadata = json!({"firmwareVersion": firmware, "batteryLevel": battery, "wifiSignal": -60});
        app.publish(&device, "telemetry", json!({"sensors": {}, "metadata": metadata}).to_string()).await;
        let reported = json!({"firmwareVersion": firmware, "batteryLevel": battery, "signalStrength": -60.0});
        let state = "query($id: ID!) { device(id: $id) { firmwareVersion batteryLevel signalStrength } }";
        eventually("the device has the values of the reading", || async {
            (owner.query(state, json!({"id": device.id})).await["device"] == reported).then_some(())
        })
        .await;
    }
}

/// Milliseconds since boot as a number, from the 18th day of uptime.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_counts_milliseconds_since_boot_dates_no_reading() {
    let app = TestApp::start().await;
    let (home, owner) = app.home().await;
    let device = app.device(&owner, &home, "a").await;
    let metrics = app.app().services().metrics.clone();
    let reading = |timestamp: u32| json!({"timestamp": timestamp, "sensors": {"temperature": 20}}).to_string();
    for (n, uptime) in (1..).zip([1_650_000_000, 1_650_010_000, 1_650_020_010]) {
        app.publish(&device, "telemetry", reading(uptime)).await;
        until("it is stored", || metrics.mqtt_stored.get() == n).await;
        app.clock().advance(TimeDelta::seconds(10));
    }
    // What was measured days ago and is sent at once keeps its time.
    let late = app.device(&owner, &home, "b").await;
    for measured_at in [1_650_000_600, 1_650_001_200] {
        app.publish(&late, "telemetry", reading(measured_at)).await;
    }
    until("all are stored", || metrics.mqtt_stored.get() == 5).await;
    let client = app.database().client().await;
    let by_device = client.query("select device_clock from telemetry order by id", &[]).await.unwrap();
    let by_device: Vec<bool> = by_device.iter().map(|row| row.get(0)).collect();
    assert_eq!(by_device, [true, false, false, true, true]);
}

/// The broker of `dev` has 1,000 messages in flight: others wait in its queue, not in that of the server.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_device_goes_offline_while_its_messages_wait_at_a_broker_with_few_in_flight() {
    const BACKLOG: u32 = 16_000;
    let (data, any) = (std::env::temp_dir().join(unique("smarthome-broker")), SocketAddr::from(([127, 0, 0, 1], 0)));
    let broker = broker::start(&data, any, Some(any), None, Access::Anonymous).await.expect("the broker starts");
    let builder = TestApp::builder().broker(broker.tcp_addr().port()).set("PRESENCE_TIMEOUT_SECONDS", "11");
    let app = builder.set("DEVICE_RATE_LIMIT", "0").start().await;
    let (home, owner) = app.home().await;
    let (busy, other) = (app.device(&owner, &home, "busy").await, app.device(&owner, &home, "other").await);
    app.publish(&other, "status", r#"{"online":true}"#).await;
    is(app.database(), &other, "online").await;
    let client = app.database().client().await;
    client
        .batch_execute(&format!(
            "create table went_offline as select now() as at where false;
             create function note() returns trigger language plpgsql as $$
             begin insert into went_offline values (now()); return null; end $$;
             create trigger note after update on device_states for each row
                 when (new.device_id = {} and not new.online) execute function note();
             create function wait() returns trigger language plpgsql as $$
             begin perform pg_sleep(1); return null; end $$;
             create trigger wait before insert on telemetry for each statement execute function wait()",
            other.id
        ))
        .await
        .expect("triggers");
    // The backlog takes longer than the time-out, and the other device sends behind it.
    let mqtt = app.mqtt().await;
    let topic = busy.topic("telemetry");
    for _ in 0..BACKLOG / 100 {
        let publishes = join_all((0..100).map(|_| mqtt.publish(&topic, r#"{"sensors":{"temperature":20}}"#))).await;
        assert!(publishes.iter().all(Result::is_ok));
    }
    app.publish(&other, "telemetry", r#"{"sensors":{"temperature":1}}"#).await;
    let stored = i64::from(BACKLOG) + 1;
    within(Duration::from_secs(60), "all is stored", || async {
        let n: i64 = client.query_one("select count(*) from telemetry", &[]).await.ok()?.get(0);
        (n == stored).then_some(())
    })
    .await;
    let n: i64 = client.query_one("select count(*) from went_offline", &[]).await.expect("a count").get(0);
    assert_eq!(n, 0, "its messages waited at the broker");
    is(app.database(), &other, "not online").await;
    app.stop().await;
    broker.stop().await;
    let _ = std::fs::remove_dir_all(data);
}
