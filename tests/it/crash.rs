//! Every acknowledged message is exactly one row, whatever is killed meanwhile.
//!
//! The test knows nothing of the code: it publishes unique numbers, injects faults and compares sets.
//! `CRASH_FAULTS=60 cargo nextest run crash` is the long version.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use smarthome::dev::postgres::Postgres;
use tokio::sync::Semaphore;

use super::support::broker::Broker;
use super::support::mqtt::Mqtt;
use super::support::server::Server;
use super::support::{eventually, rng, soon, unique, until};

/// Faults of the version that every run of the suite has.
const FAULTS: u32 = 8;
/// Messages a second, so that the faults, not the load, decide how long it takes.
const RATE: u64 = 2_000;
/// Messages that wait for their PUBACK at once.
const WINDOW: usize = 200;
/// Half of them with a clock, half without.
const DEVICES: u64 = 10;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_acknowledged_message_is_one_row_whatever_is_killed() {
    let root = std::env::temp_dir().join(unique("smarthome-crash"));
    let mut postgres = Postgres::start(&root).expect("PostgreSQL starts");
    let broker = Broker::start().await;
    let mut server = Server::start(&postgres.url(), broker.port(), &[]).await;
    register(&postgres).await;

    let load = Load::default();
    let publisher = tokio::spawn(publish(broker.port(), server.prefix().to_owned(), load.clone()));
    let (mut n_kills, mut rng) = ((0, 0), rng());
    for fault in 0..n_faults() {
        // Each fault comes after a random number of further acknowledgements.
        load.advances_by(rng.u64(50..700)).await;
        if fault % 4 == 3 {
            postgres.stop_immediate().expect("PostgreSQL stops");
            load.advances_by(rng.u64(0..500)).await;
            postgres.restart().expect("PostgreSQL restarts");
            n_kills.1 += 1;
        } else {
            server.kill();
            load.advances_by(rng.u64(0..500)).await;
            server.restart().await;
            n_kills.0 += 1;
        }
    }
    load.stop.store(true, Ordering::Relaxed);
    let n_messages = publisher.await.expect("every message is acknowledged by the broker");
    server.ready().await;

    let client = connect(&postgres).await;
    eventually("all rows are there", || async {
        let rows = client.query("select count(*) from telemetry", &[]).await.expect("a count");
        (rows[0].get::<_, i64>(0) >= i64::try_from(n_messages).expect("small")).then_some(())
    })
    .await;
    let rows = client.query("select (extra->>'n')::bigint from telemetry", &[]).await.expect("the numbers");
    let mut times: HashMap<i64, u32> = HashMap::new();
    for row in &rows {
        *times.entry(row.get(0)).or_default() += 1;
    }
    let lost: Vec<_> = (0..i64::try_from(n_messages).expect("small")).filter(|n| !times.contains_key(n)).collect();
    let twice: Vec<_> = times.iter().filter(|(_, n)| **n > 1).collect();
    println!("{n_messages} messages, killed the server {} and PostgreSQL {} times", n_kills.0, n_kills.1);
    assert!(lost.is_empty(), "{} lost: {:?}", lost.len(), &lost[..lost.len().min(20)]);
    assert!(twice.is_empty(), "{} stored twice: {:?}", twice.len(), &twice[..twice.len().min(20)]);
    drop(client);
    server.stop().await;
    postgres.stop().expect("PostgreSQL stops");
    let _ = std::fs::remove_dir_all(root);
}

#[expect(clippy::disallowed_methods, reason = "the length of the run is the developer's choice")]
fn n_faults() -> u32 {
    std::env::var("CRASH_FAULTS").ok().and_then(|text| text.parse().ok()).unwrap_or(FAULTS)
}

/// Shared with the publisher.
#[derive(Clone, Default)]
struct Load {
    acked: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
}

impl Load {
    async fn advances_by(&self, n: u64) {
        let goal = self.acked.load(Ordering::Relaxed) + n;
        until("more messages are acknowledged", || self.acked.load(Ordering::Relaxed) >= goal).await;
    }
}

async fn connect(postgres: &Postgres) -> tokio_postgres::Client {
    let (client, connection) =
        tokio_postgres::connect(&postgres.url(), tokio_postgres::NoTls).await.expect("the database");
    tokio::spawn(connection);
    client
}

async fn register(postgres: &Postgres) {
    let client = connect(postgres).await;
    client
        .batch_execute(&format!(
            "insert into homes (key, name) values ('1', 'Home');
             insert into devices (home_id, key, name, type) select 1, 'd' || g, 'Device', 'OTHER' from generate_series(0, {}) g",
            DEVICES - 1
        ))
        .await
        .expect("a home and its devices");
}

/// Publishes numbers with QoS 1 until it is stopped and each is acknowledged; returns how many. Devices with an odd
/// number have no clock.
async fn publish(port: u16, prefix: String, load: Load) -> u64 {
    let mqtt = Arc::new(Mqtt::connect(port).await);
    let window = Arc::new(Semaphore::new(WINDOW));
    let start = chrono::DateTime::from_timestamp(1_767_225_600, 0).expect("a time");
    let mut pace = tokio::time::interval(Duration::from_micros(1_000_000 / RATE));
    let mut n = 0;
    while !load.stop.load(Ordering::Relaxed) {
        pace.tick().await;
        let permit = soon("room in the window", window.clone().acquire_owned()).await.expect("open");
        let (mqtt, acked, device) = (mqtt.clone(), load.acked.clone(), n % DEVICES);
        let timestamp = if device % 2 == 1 {
            "12345".to_owned()
        } else {
            (start + chrono::TimeDelta::seconds(i64::try_from(n).expect("small"))).to_rfc3339()
        };
        let payload = format!(r#"{{"timestamp":"{timestamp}","sensors":{{"temperature":21.5,"n":{n}}}}}"#);
        let topic = format!("{prefix}/1/d{device}/telemetry");
        tokio::spawn(async move {
            mqtt.publish(&topic, payload).await.expect("PUBACK");
            acked.fetch_add(1, Ordering::Relaxed);
            drop(permit);
        });
        n += 1;
    }
    let _all = soon("the last PUBACK", window.acquire_many(u32::try_from(WINDOW).expect("small"))).await;
    n
}
