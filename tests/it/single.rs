//! A batch of one reading and nothing else, which the server stores in one statement: the same rows, events and counters as by
//! the transaction of a larger batch.

use serde_json::json;
use tokio_postgres::Client;

use super::support::app::TestApp;
use super::support::user::{Device, User};
use super::support::ws::Subscription;
use super::support::{ingest_lock, until};

/// A device that is online, and a connection that can hold the ingest lock.
struct Scene {
    app: TestApp,
    owner: User,
    home: String,
    device: Device,
    holder: Client,
}

impl Scene {
    async fn start() -> Self {
        let app = TestApp::start().await;
        let (home, owner) = app.home().await;
        let device = app.device(&owner, &home, "a").await;
        until("the server is subscribed", || app.app().services().metrics.mqtt_connected.get() == 1).await;
        let holder = app.database().client().await;
        let scene = Self { app, owner, home: home.id, device, holder };
        scene.publish(0).await;
        scene.app.all_messages_are_done().await;
        scene
    }

    /// Publishes a reading; the server has received it afterwards.
    async fn publish(&self, n: i64) {
        let received = &self.app.app().services().metrics.mqtt_received;
        let before = received.get();
        let message = json!({"timestamp": format!("2026-11-28T10:00:{:02}Z", n % 60), "sensors": {"n": n}});
        self.app.publish(&self.device, "telemetry", message.to_string()).await;
        until("the reading is received", || received.get() > before).await;
    }

    /// Holds the ingest lock until the writer waits for it with a reading alone, and returns the reading's number. A batch that
    /// updates `lastSeenAt` too, about once in a second, is let through.
    async fn hold_single(&self) -> i64 {
        for n in 1.. {
            ingest_lock::take(&self.holder).await;
            self.publish(n).await;
            if ingest_lock::awaited(&self.holder).await.contains("locked as materialized") {
                return n;
            }
            self.release().await;
        }
        unreachable!("numbers do not end")
    }

    async fn release(&self) {
        ingest_lock::release(&self.holder).await;
        self.app.all_messages_are_done().await;
    }

    /// The ids of the readings with this number.
    async fn ids(&self, n: i64) -> Vec<i64> {
        let rows =
            self.holder.query("select id from telemetry where (extra->>'n')::bigint = $1 order by id", &[&n]).await;
        rows.expect("the rows").iter().map(|row| row.get(0)).collect()
    }

    async fn n_packets(&self) -> i64 {
        let count = "select coalesce(sum(cardinality(packet_ids)), 0)::bigint from committed_packets";
        self.holder.query_one(count, &[]).await.expect("a count").get(0)
    }

    async fn subscribe(&self) -> Subscription {
        let query = "subscription($home: ID) { telemetry(homeId: $home) { id extra } }";
        self.app.subscribe(&self.owner, query, json!({"home": self.home})).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reading_alone_is_stored_with_its_packet_and_published_once() {
    let scene = Scene::start().await;
    let mut live = scene.subscribe().await;
    let before = scene.n_packets().await;
    let n = scene.hold_single().await;
    scene.release().await;
    assert_eq!(scene.n_packets().await, before + n);
    for n in 1..=n {
        let event = live.next().await["telemetry"].take();
        let id: i64 = event["id"].as_str().and_then(|id| id.parse().ok()).expect("an id");
        assert_eq!((scene.ids(n).await, &event["extra"]), (vec![id], &json!({"n": n})));
    }
    // The same message again: its device has a clock, so it is the same reading.
    scene.publish(n).await;
    scene.app.all_messages_are_done().await;
    scene.publish(n + 1).await;
    assert_eq!(live.next().await["telemetry"]["extra"], json!({"n": n + 1}));
    assert_eq!(scene.ids(n).await.len(), 1);
    assert_eq!(scene.app.metric("mqtt_messages_duplicate_total"), 1.0);
    scene.app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_stored_of_a_device_that_is_deleted_while_its_reading_waits() {
    let scene = Scene::start().await;
    let n = scene.hold_single().await;
    let before = scene.n_packets().await;
    let id: i64 = scene.device.id.parse().expect("a number");
    scene.holder.execute("delete from devices where id = $1", &[&id]).await.expect("deleted");
    scene.release().await;
    assert!(scene.ids(n).await.is_empty());
    assert_eq!(scene.app.app().services().metrics.mqtt_rejected_total.get(), 1);
    assert_eq!(scene.n_packets().await, before + 1, "that of the rejected message");
    scene.app.stop().await;
}

/// A transaction that changes a unique column of a device, as its MAC address, locks the row also against readings.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reading_does_not_wait_for_the_row_of_its_device() {
    let scene = Scene::start().await;
    let n = scene.hold_single().await;
    let mut client = scene.app.database().client().await;
    let change = client.transaction().await.expect("a transaction");
    let id: i64 = scene.device.id.parse().expect("a number");
    change.execute("select from devices where id = $1 for update", &[&id]).await.expect("locked");
    scene.release().await;
    assert_eq!(scene.ids(n).await.len(), 1);
    change.rollback().await.expect("released");
    scene.app.stop().await;
}

/// PostgreSQL commits a statement without a transaction after it has sent the statement's rows.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reading_whose_commit_fails_is_not_taken_for_stored() {
    const REFUSE_COMMITS: &str = "
        create table refusing();
        grant select on refusing to public;
        create function refuse() returns trigger language plpgsql as $$ begin
            if exists (select from refusing) then raise exception 'not now' using errcode = '40001'; end if;
            return null;
        end $$;
        create constraint trigger refuse after insert on committed_packets
            deferrable initially deferred for each row execute function refuse()";
    let scene = Scene::start().await;
    scene.holder.batch_execute(REFUSE_COMMITS).await.expect("a trigger");
    let n = scene.hold_single().await;
    let mut live = scene.subscribe().await;
    scene.holder.batch_execute("insert into refusing default values").await.expect("commits fail");
    ingest_lock::release(&scene.holder).await;
    until("a commit has failed", || scene.app.metric("ingest_retries_total") > 0.0).await;
    scene.holder.batch_execute("delete from refusing").await.expect("commits succeed");
    scene.app.all_messages_are_done().await;
    let ids = scene.ids(n).await;
    assert_eq!(ids.len(), 1);
    assert_eq!(live.next().await["telemetry"]["id"], json!(ids[0].to_string()));
    scene.app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_that_changes_while_its_reading_waits_is_still_there() {
    let scene = Scene::start().await;
    let n = scene.hold_single().await;
    let id: i64 = scene.device.id.parse().expect("a number");
    let change = "update devices set mac_address = 'AA:BB:CC:DD:EE:0F', name = 'other' where id = $1";
    scene.holder.execute(change, &[&id]).await.expect("changed");
    scene.release().await;
    assert_eq!(scene.ids(n).await.len(), 1);
    scene.app.stop().await;
}
