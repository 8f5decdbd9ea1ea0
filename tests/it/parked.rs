//! A month that does not take its readings parks them and lets all others pass. Once it takes readings again, each parked one
//! is stored and published once.

use std::time::Duration;

use serde_json::{Value, json};
use tokio_postgres::Client;

use super::support::app::TestApp;
use super::support::http;
use super::support::user::Device;
use super::support::{eventually, until, within};
use super::unstored::unready_ingest;

const LIVE: &str = "subscription($home: ID, $after: ID) {
    telemetry(homeId: $home, after: $after) { id recordedAt device { key } } }";
const HISTORY: &str = "query($id: ID!) { device(id: $id) { telemetry { nodes { recordedAt } } } }";

/// How long it may take until a month is tried again: the pauses grow to half a minute.
const REPAIRED: Duration = Duration::from_secs(60);

/// A trigger on the month's partition that refuses every row, with an error code.
fn refusing(code: &str) -> String {
    format!(
        "create function refuse() returns trigger language plpgsql as $$
             begin raise exception 'archived' using errcode = '{code}'; end $$;
         create trigger refuse before insert on telemetry_2020_03 for each row execute function refuse()"
    )
}

/// The days of March 2020 on which the readings are recorded that the month does not take, in the order of receipt.
const DAYS: [u32; 3] = [5, 2, 4];

fn recorded_at(day: u32) -> String {
    format!("2020-03-{day:02}T12:00:00.000000Z")
}

async fn publish_old(app: &TestApp, device: &Device, day: u32) {
    let reading = format!(r#"{{"timestamp":"{}","sensors":{{"temperature":{day}}}}}"#, recorded_at(day));
    app.publish(device, "telemetry", reading).await;
}

async fn publish_new(app: &TestApp, device: &Device) {
    app.publish(device, "telemetry", r#"{"sensors":{"temperature":20}}"#).await;
}

async fn are_parked(app: &TestApp, n: usize) {
    until(&format!("{n} readings are parked"), || app.metric("ingest_parked_readings") == n as f64).await;
}

async fn count(client: &Client, rows: &str) -> i64 {
    client.query_one(&format!("select count(*) from {rows}"), &[]).await.expect("a number").get(0)
}

async fn is_stored(client: &Client, device: &Device, n: i64) {
    within(REPAIRED, &format!("{n} readings of {} are stored", device.key), || async {
        (count(client, &format!("telemetry where device_id = {}", device.id)).await == n).then_some(())
    })
    .await;
}

/// What `/readyz` says of ingest. The server is ready.
async fn ingest_check(app: &TestApp) -> String {
    let ready = http::get(app.addr(), "/readyz").await;
    assert_eq!(ready.status, 200, "{:?}", ready.json());
    ready.json()["checks"]["ingest"].as_str().expect("a text").to_owned()
}

/// The month is closed by one statement and opened by another. With `has_table` it has stored a reading before.
async fn a_closed_month_parks_its_readings(has_table: bool, close: &str, open: &str, reason: &str) {
    let app = TestApp::start().await;
    let (home, owner) = app.home().await;
    let (old, other) = (app.device(&owner, &home, "old").await, app.device(&owner, &home, "other").await);
    let client = app.database().client().await;
    if has_table {
        publish_old(&app, &old, 1).await;
        is_stored(&client, &old, 1).await;
    }
    client.batch_execute(close).await.expect("closed");
    let mut live = owner.subscribe(LIVE, json!({"home": home.id})).await;

    for day in DAYS {
        publish_old(&app, &old, day).await;
        publish_new(&app, &other).await;
    }
    are_parked(&app, DAYS.len()).await;
    is_stored(&client, &other, 3).await;
    // A device's resend is parked once.
    let duplicates = app.app().services().metrics.mqtt_duplicate.clone();
    publish_old(&app, &old, DAYS[0]).await;
    until("the resend is acknowledged", || duplicates.get() == 1).await;
    publish_new(&app, &other).await;
    is_stored(&client, &other, 4).await;
    until("nothing waits", || app.metric("ingest_oldest_unstored_seconds") == 0.0).await;
    assert_eq!(count(&client, "parked_readings").await, 3);
    is_stored(&client, &old, i64::from(has_table && !close.contains("detach"))).await;
    let check = eventually("/readyz names the month", || async {
        Some(ingest_check(&app).await).filter(|check| check.contains("telemetry_2020_03"))
    })
    .await;
    assert!(check.contains(reason) && check.contains("3 readings"), "{check}");
    let mut newest = Value::Null;
    for _ in 0..4 {
        let mut reading = live.next().await["telemetry"].take();
        assert_eq!(reading["device"]["key"], "other");
        newest = reading["id"].take();
    }

    client.batch_execute(open).await.expect("opened");
    let n = DAYS.len() + usize::from(has_table);
    is_stored(&client, &old, n as i64).await;
    are_parked(&app, 0).await;
    assert_eq!(count(&client, "parked_readings").await, 0);
    // Subscribers get them like new ones, also those that resume.
    let mut resumed = owner.subscribe(LIVE, json!({"home": home.id, "after": newest})).await;
    let mut days = DAYS;
    days.sort_unstable();
    for day in days {
        for stream in [&mut live, &mut resumed] {
            assert_eq!(stream.next().await["telemetry"]["recordedAt"], json!(recorded_at(day)));
        }
    }
    let history = owner.query(HISTORY, json!({"id": old.id})).await["device"]["telemetry"]["nodes"].take();
    let recorded = if has_table { vec![5, 4, 2, 1] } else { vec![5, 4, 2] };
    let expected: Vec<Value> = recorded.into_iter().map(|day| json!({"recordedAt": recorded_at(day)})).collect();
    assert_eq!(history, json!(expected));
    eventually("/readyz is ok", || async { (ingest_check(&app).await == "ok").then_some(()) }).await;

    // The month takes readings at once again.
    publish_old(&app, &old, 20).await;
    is_stored(&client, &old, n as i64 + 1).await;
    let m = &app.app().services().metrics;
    let received = n as u64 + 6;
    until("each message is counted once", || m.mqtt_stored.get() + m.mqtt_duplicate.get() == received).await;
    assert_eq!((m.mqtt_stored.get(), m.mqtt_received.get()), (received - 1, received));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_that_cannot_be_attached_parks_its_month() {
    let misfit = "alter table telemetry detach partition telemetry_2020_03;
                  alter table telemetry_2020_03 add column more integer not null default 0";
    let repair = "alter table telemetry_2020_03 drop column more";
    a_closed_month_parks_its_readings(true, misfit, repair, "not attached").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_that_refuses_every_row_parks_its_month() {
    a_closed_month_parks_its_readings(true, &refusing("P0001"), "drop trigger refuse on telemetry_2020_03", "refuses")
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_that_is_read_only_parks_its_month() {
    a_closed_month_parks_its_readings(true, &refusing("25006"), "drop trigger refuse on telemetry_2020_03", "refuses")
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_month_whose_name_is_taken_parks_its_readings() {
    let close = "create view telemetry_2020_03 as select 1 as one";
    a_closed_month_parks_its_readings(false, close, "drop view telemetry_2020_03", "not attached").await;
}

/// ANALYZE holds this lock for its whole run.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_month_that_has_to_wait_for_analyze_holds_up_nobody() {
    let app = TestApp::start().await;
    let (home, owner) = app.home().await;
    let (old, other) = (app.device(&owner, &home, "old").await, app.device(&owner, &home, "other").await);
    let (client, mut holder) = (app.database().client().await, app.database().client().await);
    let lock = holder.transaction().await.expect("a transaction");
    lock.batch_execute("lock table telemetry in share update exclusive mode").await.expect("the lock");
    publish_old(&app, &old, 1).await;
    publish_new(&app, &other).await;
    is_stored(&client, &other, 1).await;
    are_parked(&app, 1).await;
    assert_eq!(app.app().services().metrics.ingest_retries.get(), 0);
    lock.rollback().await.expect("unlocked");
    is_stored(&client, &old, 1).await;
    are_parked(&app, 0).await;
}

/// Parked readings outlive the server, and what the database refuses of them does not hold up the others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parked_readings_are_moved_after_a_restart_and_a_refused_one_stays_parked() {
    let app = TestApp::start().await;
    let (home, owner) = app.home().await;
    let old = app.device(&owner, &home, "old").await;
    let client = app.database().client().await;
    client.batch_execute("create view telemetry_2020_03 as select 1 as one").await.expect("a view");
    for day in 1..=9 {
        publish_old(&app, &old, day).await;
    }
    are_parked(&app, 9).await;
    client.batch_execute("alter table telemetry add check (temperature <> 4)").await.expect("a constraint");
    let database = app.stop().await;
    client.batch_execute("drop view telemetry_2020_03").await.expect("dropped");
    let app = TestApp::builder().start_on(database).await;
    is_stored(&client, &old, 8).await;
    are_parked(&app, 1).await;
    assert!(ingest_check(&app).await.contains("1 reading"));
    assert_eq!(count(&client, "parked_readings where temperature = 4").await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deletion_deletes_parked_readings() {
    let app = TestApp::start().await;
    let (home, owner) = app.home().await;
    let (first, second) = (app.device(&owner, &home, "first").await, app.device(&owner, &home, "second").await);
    let client = app.database().client().await;
    client.batch_execute("create view telemetry_2020_03 as select 1 as one").await.expect("a view");
    for device in [&first, &second] {
        for day in [1, 2] {
            publish_old(&app, device, day).await;
        }
    }
    are_parked(&app, 4).await;
    owner.query("mutation($id: ID!) { deleteDevice(id: $id) }", json!({"id": first.id})).await;
    assert_eq!(count(&client, &format!("parked_readings where device_id = {}", first.id)).await, 0);
    assert_eq!(count(&client, "parked_readings").await, 2);
    owner.query("mutation($id: ID!) { deleteHome(id: $id) }", json!({"id": home.id})).await;
    assert_eq!(count(&client, "parked_readings").await, 0);
}

/// No reading that arrives now can be read: the server is not ready.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_whose_present_month_takes_no_readings_is_not_ready() {
    let app = TestApp::start().await;
    let (home, owner) = app.home().await;
    let device = app.device(&owner, &home, "a").await;
    let client = app.database().client().await;
    client.batch_execute(&refusing("P0001").replace("telemetry_2020_03", "telemetry")).await.expect("a trigger");
    publish_new(&app, &device).await;
    are_parked(&app, 1).await;
    let reason = unready_ingest(&app).await;
    assert!(reason.as_str().is_some_and(|reason| reason.contains("1 reading is parked")), "{reason}");
    client.batch_execute("drop trigger refuse on telemetry").await.expect("dropped");
    is_stored(&client, &device, 1).await;
    http::until_ready(app.addr()).await;
}

/// With as many parked readings as there may be, the next one waits loudly, and passes when there is room.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_more_than_a_million_readings_are_parked() {
    let database = TestApp::start().await.stop().await;
    let client = database.client().await;
    let fill = "create view telemetry_2020_03 as select 1 as one;
        insert into parked_readings (home_id, device_id, recorded_at, received_at, dedup, device_clock, reason)
        select 0, 0, '2020-03-01 00:00Z', now(), n, true, '' from generate_series(1, 1000000) n";
    client.batch_execute(fill).await.expect("filled");
    let app = TestApp::builder().start_on(database).await;
    let (home, owner) = app.home().await;
    let device = app.device(&owner, &home, "a").await;
    until("the server is subscribed", || app.app().services().metrics.mqtt_connected.get() == 1).await;
    publish_old(&app, &device, 1).await;
    within(REPAIRED, "/readyz reports ingest", || async {
        let ready = http::get(app.addr(), "/readyz").await;
        let reason = ready.json()["checks"]["ingest"].as_str()?.to_owned();
        (ready.status == 503 && reason.ends_with("too many readings are parked for months that take none"))
            .then_some(())
    })
    .await;
    // They are of a deleted device, so they are dropped when they are moved.
    client.batch_execute("drop view telemetry_2020_03").await.expect("opened");
    is_stored(&client, &device, 1).await;
    http::until_ready(app.addr()).await;
}
