//! Where the time of a message or of a request went: what delays it shows in the histogram that `docs/operations.md` names, and in
//! no other.

use std::time::Instant;

use serde_json::json;
use tokio_postgres::Client;

use crate::support::app::TestApp;
use crate::support::user::{Device, Home, User};
use crate::support::{eventually, ingest_lock, until};

/// Statements of this database that wait for a lock.
const WAITING: &str = "select count(*) from pg_locks l join pg_database d on d.oid = l.database \
     where d.datname = current_database() and not l.granted";
/// How long everything is delayed: more than the bound of a bucket.
const DELAY: f64 = 0.3;
const BOUND: &str = "0.25";
const READING: &str = r#"{"sensors": {"temperature": 21.5}}"#;

struct Scene {
    app: TestApp,
    owner: User,
    home: Home,
    device: Device,
    holder: Client,
}

impl Scene {
    async fn start() -> Self {
        let app = TestApp::builder().set("DATABASE_POOL_SIZE", "1").start().await;
        let (home, owner) = app.home().await;
        let device = app.device(&owner, &home, "sensor").await;
        let holder = app.database().client().await;
        let metrics = app.app().services().metrics.clone();
        until("the server is subscribed", || metrics.mqtt_connected.get() == 1).await;
        Self { app, owner, home, device, holder }
    }

    /// A sample by its series, without the prefix.
    fn sample(&self, series: &str) -> f64 {
        let text = self.app.app().services().metrics.render();
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("smarthome_{series} ")));
        line.unwrap_or_else(|| panic!("no {series} in {text}")).parse().expect("a number")
    }

    /// Observations of a histogram that took longer than [`BOUND`]; `labels` end with a comma.
    fn n_slow(&self, histogram: &str, labels: &str) -> f64 {
        let of_all = match labels {
            "" => format!("{histogram}_count"),
            labels => format!("{histogram}_count{{{}}}", labels.trim_end_matches(',')),
        };
        self.sample(&of_all) - self.fast(histogram, labels)
    }

    fn fast(&self, histogram: &str, labels: &str) -> f64 {
        // The encoder writes the bound first or last.
        let (first, last) = (format!("{{le=\"{BOUND}\",{labels}"), format!("{{{labels}le=\"{BOUND}\"}}"));
        let text = self.app.app().services().metrics.render();
        let bucket = |series: &str| {
            let series = format!("smarthome_{histogram}_bucket{}", series.trim_end_matches([',', '}']));
            text.lines().find_map(|line| line.strip_prefix(&format!("{series}}} "))?.parse().ok())
        };
        bucket(&first).or_else(|| bucket(&last)).unwrap_or_else(|| panic!("no bucket of {histogram} in {text}"))
    }

    /// The slow observations of everything that delays a message: queue, look-up, insert, acknowledgement; then of the whole
    /// time until the commit.
    fn n_slow_steps(&self) -> [f64; 5] {
        let step = |step: &str| self.n_slow("ingest_batch_seconds", &format!("step=\"{step}\","));
        let whole = |histogram: &str| self.n_slow(histogram, "");
        let (queue, commit) = (whole("ingest_queue_seconds"), whole("ingest_commit_seconds"));
        [queue, step("look_up"), step("insert"), whole("ingest_acknowledgement_seconds"), commit]
    }

    async fn eventually_waiting(&self, n_statements: i64) {
        eventually("the statements wait for a lock", || async {
            let n: i64 = self.holder.query_one(WAITING, &[]).await.expect("a count").get(0);
            (n >= n_statements).then_some(())
        })
        .await;
    }

    /// Waits until the oldest message has waited for the delay.
    async fn delay(&self) {
        until("the message has waited", || self.app.metric("ingest_oldest_unstored_seconds") > DELAY).await;
    }

    async fn stored(&self, n: f64) {
        let is_acknowledged = || self.sample("ingest_acknowledgement_seconds_count") >= 1.0;
        until("all messages are stored", || self.app.metric("mqtt_messages_stored_total") == n).await;
        until("and acknowledged", is_acknowledged).await;
    }
}

#[tokio::test]
async fn a_fast_reading_is_slow_nowhere() {
    let scene = Scene::start().await;
    let query = "subscription ($home: ID!) { telemetry(homeId: $home) { id } }";
    let mut events = scene.owner.subscribe(query, json!({"home": scene.home.id})).await;
    until("the subscription runs", || scene.app.metric("subscriptions") == 1.0).await;
    scene.app.publish(&scene.device, "telemetry", READING).await;
    events.next().await;
    scene.stored(1.0).await;
    assert_eq!(scene.n_slow_steps(), [0.0; 5]);
    assert_eq!(scene.sample("ingest_commit_seconds_count"), 1.0);
    let delivered = "subscription_delivery_seconds_count{transport=\"websocket\"}";
    until("its delivery is measured", || scene.sample(delivered) == 1.0).await;
}

#[tokio::test]
async fn a_slow_commit_is_the_step_insert_of_its_batch_and_the_queue_of_the_next() {
    let scene = Scene::start().await;
    ingest_lock::take(&scene.holder).await;
    scene.app.publish(&scene.device, "telemetry", READING).await;
    scene.eventually_waiting(1).await;
    scene.app.publish(&scene.device, "telemetry", READING).await;
    until("both are received", || scene.app.metric("mqtt_messages_received_total") == 2.0).await;
    let received = Instant::now();
    until("both have waited", || received.elapsed().as_secs_f64() > DELAY).await;
    ingest_lock::release(&scene.holder).await;
    scene.stored(2.0).await;
    assert_eq!(scene.n_slow_steps(), [1.0, 0.0, 1.0, 0.0, 2.0]);
}

#[tokio::test]
async fn a_slow_look_up_of_devices_is_the_step_look_up() {
    let scene = Scene::start().await;
    let mut holder = scene.app.database().client().await;
    let lock = holder.transaction().await.expect("a transaction");
    lock.batch_execute("lock table devices in access exclusive mode").await.expect("the lock");
    scene.app.publish(&scene.device, "telemetry", READING).await;
    scene.eventually_waiting(1).await;
    scene.delay().await;
    lock.rollback().await.expect("released");
    scene.stored(1.0).await;
    assert_eq!(scene.n_slow_steps(), [0.0, 1.0, 0.0, 0.0, 1.0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_statement_of_the_api_and_the_wait_for_its_connection_are_told_apart() {
    let scene = Scene::start().await;
    assert_eq!((scene.n_slow("db_statement_seconds", ""), scene.n_slow("db_pool_wait_seconds", "")), (0.0, 0.0));
    let mut holder = scene.app.database().client().await;
    let lock = holder.transaction().await.expect("a transaction");
    lock.batch_execute("lock table rooms in access exclusive mode").await.expect("the lock");
    let rooms = async || {
        let query = "query ($home: ID!) { home(id: $home) { rooms { id } } }";
        scene.owner.query(query, json!({"home": scene.home.id})).await
    };
    let delayed = async {
        scene.eventually_waiting(1).await;
        until("another request waits", || scene.app.metric("db_pool_waiting") >= 1.0).await;
        let began = Instant::now();
        until("both have waited", || began.elapsed().as_secs_f64() > DELAY).await;
        lock.rollback().await.expect("released");
    };
    tokio::join!(rooms(), rooms(), delayed);
    assert!(scene.n_slow("db_statement_seconds", "") >= 1.0);
    assert!(scene.n_slow("db_pool_wait_seconds", "") >= 1.0);
    assert_eq!(scene.n_slow("http_request_seconds", "route=\"/graphql\","), 2.0);
    assert_eq!(scene.n_slow("graphql_operation_seconds", "kind=\"query\","), 2.0);
    assert_eq!(scene.sample("http_requests_total{route=\"/graphql\",status=\"5xx\"}"), 0.0);
}
