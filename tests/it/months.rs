//! The partitions of `telemetry`: made ahead, and attached again where an operator has detached one.

use chrono::{Datelike, Months};
use tokio_postgres::Client;

use super::support::app::TestApp;
use super::support::eventually;
use super::support::user::Device;

async fn is_stored(client: &Client, device: &Device, n: i64) {
    let count = format!("select count(*) from telemetry where device_id = {}", device.id);
    eventually(&format!("{n} readings are stored"), || async {
        (client.query_one(&count, &[]).await.ok()?.get::<_, i64>(0) == n).then_some(())
    })
    .await;
}

/// The partition exists and is attached.
async fn is_attached(client: &Client, name: &str) {
    let query =
        format!("select from pg_inherits where inhrelid = to_regclass('{name}') and inhparent = 'telemetry'::regclass");
    eventually(name, || async { client.query_opt(&query, &[]).await.ok()?.map(drop) }).await;
}

async fn publish_old(app: &TestApp, device: &Device, day: u32) {
    let reading = format!(r#"{{"timestamp":"2020-03-{day:02}T12:00:00Z","sensors":{{"temperature":20}}}}"#);
    app.publish(device, "telemetry", reading).await;
}

async fn publish_new(app: &TestApp, device: &Device) {
    app.publish(device, "telemetry", r#"{"sensors":{"temperature":20}}"#).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn this_months_and_the_next_months_partition_exist_before_a_message() {
    let app = TestApp::start().await;
    let (home, owner) = app.home().await;
    let device = app.device(&owner, &home, "a").await;
    let mut client = app.database().client().await;
    let now = app.clock().now();
    for month in [now, now.checked_add_months(Months::new(1)).expect("in range")] {
        is_attached(&client, &format!("telemetry_{}_{:02}", month.year(), month.month())).await;
    }
    // ANALYZE holds this lock, and whatever attaches a partition waits for it.
    let lock = client.transaction().await.expect("a transaction");
    lock.batch_execute("lock table telemetry in share update exclusive mode").await.expect("the lock");
    publish_new(&app, &device).await;
    is_stored(&app.database().client().await, &device, 1).await;
    assert_eq!(app.app().services().metrics.ingest_retries.get(), 0);
    lock.rollback().await.expect("unlocked");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_detached_month_is_attached_again_by_its_next_message() {
    let app = TestApp::start().await;
    let (home, owner) = app.home().await;
    let (old, other) = (app.device(&owner, &home, "a").await, app.device(&owner, &home, "b").await);
    let client = app.database().client().await;
    publish_old(&app, &old, 1).await;
    is_stored(&client, &old, 1).await;
    client.batch_execute("alter table telemetry detach partition telemetry_2020_03").await.expect("detached");
    publish_old(&app, &old, 2).await;
    for _ in 0..5 {
        publish_new(&app, &other).await;
    }
    is_stored(&client, &other, 5).await;
    is_stored(&client, &old, 2).await;
    is_attached(&client, "telemetry_2020_03").await;
    let checks = "select from pg_constraint where conrelid = 'telemetry_2020_03'::regclass and contype = 'c'";
    assert!(client.query(checks, &[]).await.expect("a list").is_empty(), "the check for the attachment is dropped");

    // The same after a restart, and where it was detached with CONCURRENTLY, which leaves a check.
    client
        .batch_execute("alter table telemetry detach partition telemetry_2020_03 concurrently")
        .await
        .expect("detached");
    let database = app.stop().await;
    let app = TestApp::builder().start_on(database).await;
    let device = app.device(&owner.at(app.addr()), &home, "c").await;
    publish_old(&app, &device, 3).await;
    is_stored(&app.database().client().await, &device, 1).await;
}
