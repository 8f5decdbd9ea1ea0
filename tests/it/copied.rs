//! Large batches of readings, which the server copies into the table over a connection of its own: the same rows, events and
//! counters as by INSERT, and the same answer to whatever is in the way.
//!
//! Each test holds the ingest lock, so that the writer waits with a first message while those after it gather in its queue
//! and form the next batch together.

use std::ops::Range;

use serde_json::json;
use tokio_postgres::Client;

use super::support::app::TestApp;
use super::support::user::{Device, User};
use super::support::ws::Subscription;
use super::support::{eventually, ingest_lock, until};

/// A home with two devices, and a connection that holds the ingest lock.
struct Scene {
    app: TestApp,
    owner: User,
    home: String,
    devices: [Device; 2],
    holder: Client,
}

impl Scene {
    /// The next messages form one batch.
    async fn start() -> Self {
        let app = TestApp::start().await;
        let (home, owner) = app.home().await;
        let devices = [app.device(&owner, &home, "a").await, app.device(&owner, &home, "b").await];
        until("the server is subscribed", || app.app().services().metrics.mqtt_connected.get() == 1).await;
        let holder = app.database().client().await;
        let scene = Self { app, owner, home: home.id, devices, holder };
        scene.gather().await;
        scene
    }

    /// Holds the lock until the writer waits for it with one message, whose number is -1.
    async fn gather(&self) {
        ingest_lock::take(&self.holder).await;
        self.publish_as(0, -1, "2026-11-28T10:00:00Z").await;
        ingest_lock::awaited(&self.holder).await;
    }

    /// Publishes readings of both devices in turn; they are in the queue afterwards.
    async fn publish(&self, numbers: Range<i64>) {
        let received = self.metric("mqtt_messages_received_total");
        let n_messages = (numbers.end - numbers.start) as f64;
        for n in numbers {
            self.publish_as(n as usize % 2, n, &format!("2026-11-28T10:{:02}:{:02}Z", n / 60 % 60, n % 60)).await;
        }
        until("all are received", || self.metric("mqtt_messages_received_total") == received + n_messages).await;
    }

    async fn publish_as(&self, device: usize, n: i64, at: &str) {
        let message = json!({"timestamp": at, "sensors": {"temperature": 20.5, "flame": true, "n": n}});
        self.app.publish(&self.devices[device], "telemetry", message.to_string()).await;
    }

    async fn release(&self) {
        ingest_lock::release(&self.holder).await;
    }

    fn metric(&self, name: &str) -> f64 {
        self.app.metric(name)
    }

    fn n_copied(&self) -> f64 {
        self.metric("ingest_batches_copied_total")
    }

    /// Batches that were inserted because their copy failed.
    fn n_failed(&self) -> f64 {
        self.metric("ingest_copies_failed_total")
    }

    /// The numbers of all readings in the order of their ids, without the first.
    async fn numbers(&self) -> Vec<i64> {
        let rows = self.holder.query("select (extra->>'n')::bigint from telemetry order by id", &[]).await;
        rows.expect("the rows").iter().map(|row| row.get(0)).filter(|n| *n >= 0).collect()
    }

    async fn subscribe(&self) -> Subscription {
        let query = "subscription($home: ID) { telemetry(homeId: $home) { id sensors { temperature flame } extra timeSource } }";
        self.app.subscribe(&self.owner, query, json!({"home": self.home})).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_batch_is_copied_and_its_events_have_the_ids_of_the_rows() {
    let scene = Scene::start().await;
    let mut live = scene.subscribe().await;
    scene.publish(0..200).await;
    scene.release().await;
    scene.app.all_messages_are_done().await;
    assert_eq!(scene.n_copied(), 1.0);
    assert_eq!(scene.numbers().await, Vec::from_iter(0..200));
    live.next().await;
    for n in 0..200 {
        let event = live.next().await["telemetry"].take();
        assert_eq!(event["extra"], json!({"n": n}));
        assert_eq!(event["sensors"], json!({"temperature": 20.5, "flame": true}));
        assert_eq!(event["timeSource"], "DEVICE");
        let id: i64 = event["id"].as_str().and_then(|id| id.parse().ok()).expect("an id");
        let stored = "select (extra->>'n')::bigint, received_at > recorded_at from telemetry where id = $1";
        let row = scene.holder.query_one(stored, &[&id]).await.expect("the row");
        assert_eq!((row.get::<_, i64>(0), row.get::<_, bool>(1)), (n, true));
    }
    // The next ones follow.
    scene.gather().await;
    scene.publish(200..300).await;
    scene.release().await;
    scene.app.all_messages_are_done().await;
    assert_eq!(scene.n_copied(), 2.0);
    assert_eq!(scene.numbers().await, Vec::from_iter(0..300));
    scene.app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readings_that_exist_are_stored_once_and_the_others_of_their_batch_too() {
    let scene = Scene::start().await;
    scene.publish(0..100).await;
    scene.publish(50..150).await;
    scene.release().await;
    scene.app.all_messages_are_done().await;
    assert_eq!((scene.n_copied(), scene.n_failed()), (0.0, 1.0));
    assert_eq!(scene.numbers().await, Vec::from_iter(0..150));
    assert_eq!(scene.metric("mqtt_messages_duplicate_total"), 50.0);
    scene.app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_stored_of_a_device_that_was_deleted_meanwhile() {
    let scene = Scene::start().await;
    scene.publish(0..200).await;
    let id: i64 = scene.devices[0].id.parse().expect("a number");
    scene.holder.execute("delete from devices where id = $1", &[&id]).await.expect("deleted");
    scene.release().await;
    scene.app.all_messages_are_done().await;
    assert_eq!(scene.numbers().await, Vec::from_iter((0..200).filter(|n| n % 2 == 1)));
    assert_eq!(scene.app.app().services().metrics.mqtt_rejected_total.get(), 101, "with the first one");
    scene.app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_whose_term_has_ended_copies_nothing() {
    let scene = Scene::start().await;
    scene.publish(0..200).await;
    // The first message waits in a transaction without this check: only its connection's locks protect it. So end those too.
    let ended = "select pg_terminate_backend(pid) from pg_locks where locktype = 'advisory' and classid = 7003 and database = \
         (select oid from pg_database where datname = current_database())";
    scene.holder.batch_execute("update ingest_sessions set term = term + 1").await.expect("another term");
    scene.holder.batch_execute(ended).await.expect("the writer's connection is closed");
    scene.release().await;
    until("the server has begun a term again", || scene.metric("mqtt_messages_left_total") > 0.0).await;
    eventually("all are stored", || async { (scene.numbers().await.len() >= 200).then_some(()) }).await;
    assert_eq!(scene.numbers().await, Vec::from_iter(0..200));
    scene.app.stop().await;
}

/// Copies nothing, but stores all by the ordinary transaction, where this change of the sessions comes after the server has
/// begun the batch's first message, and its connections stay open.
async fn assert_not_copied_after(change: &str) {
    let scene = Scene::start().await;
    scene.publish(0..200).await;
    scene.holder.batch_execute(change).await.expect("a change of the sessions");
    scene.release().await;
    scene.app.all_messages_are_done().await;
    assert_eq!((scene.n_copied(), scene.n_failed()), (0.0, 1.0));
    assert_eq!(scene.numbers().await, Vec::from_iter(0..200));
    scene.app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_copy_itself_is_refused_after_the_term_has_ended() {
    assert_not_copied_after("update ingest_sessions set term = term + 1").await;
}

/// What a server of a group finds after another one has begun with a plain subscription.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_a_plain_subscription_replaces_copies_nothing() {
    assert_not_copied_after("update ingest_sessions set is_stale = true").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_have_the_right_ids_where_somebody_else_takes_some() {
    let scene = Scene::start().await;
    let mut live = scene.subscribe().await;
    scene.publish(0..100).await;
    scene
        .holder
        .batch_execute(
            "create function take_another() returns trigger language plpgsql as $$ begin \
                 perform nextval('telemetry_id_seq'); return new; end $$; \
             create trigger take_another before insert on telemetry for each row execute function take_another()",
        )
        .await
        .expect("a trigger");
    scene.release().await;
    scene.app.all_messages_are_done().await;
    assert_eq!((scene.n_copied(), scene.n_failed()), (0.0, 1.0));
    assert_eq!(scene.numbers().await, Vec::from_iter(0..100));
    live.next().await;
    for n in 0..100 {
        let event = live.next().await["telemetry"].take();
        let id: i64 = event["id"].as_str().and_then(|id| id.parse().ok()).expect("an id");
        let row = scene.holder.query_one("select (extra->>'n')::bigint from telemetry where id = $1", &[&id]).await;
        assert_eq!((row.expect("the row").get::<_, i64>(0), &event["extra"]), (n, &json!({"n": n})));
    }
    scene.app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_whose_connection_is_closed_is_stored_once() {
    let scene = Scene::start().await;
    scene.publish(0..100).await;
    scene.release().await;
    scene.app.all_messages_are_done().await;
    assert_eq!(scene.n_copied(), 1.0);
    scene.gather().await;
    scene.publish(100..300).await;
    // All but the one that waits for the lock with the first message.
    let close = "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() \
         and pid <> pg_backend_pid() and wait_event_type is distinct from 'Lock'";
    scene.holder.batch_execute(close).await.expect("closed");
    scene.release().await;
    scene.app.all_messages_are_done().await;
    assert_eq!(scene.numbers().await, Vec::from_iter(0..300));
    assert_eq!(scene.metric("mqtt_messages_duplicate_total"), 1.0, "only the first message came again");
    scene.app.stop().await;
}
