//! Outages of the database and the broker: nothing is lost or stored twice, no subscriber misses anything, and
//! the API says what is wrong.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::json;

use super::support::app::{Database, TestApp};
use super::support::broker::Broker;
use super::support::http;
use super::support::mqtt::Mqtt;
use super::support::proxy::{Mode, Proxy, Target};
use super::support::server::Server;
use super::support::user::{Device, User};
use super::support::{eventually, rng, unique, until, within};

const TELEMETRY: &str = "subscription($home: ID) { telemetry(homeId: $home) { extra } }";

/// A database behind a proxy.
async fn proxied() -> (Database, Proxy, String) {
    let database = Database::create().await;
    let (proxy, url) = database.proxied().await;
    (database, proxy, url)
}

pub(super) async fn report(mqtt: &Mqtt, device: &Device, n: usize) {
    // Without a clock only the broker session tells a repeat from a second reading.
    mqtt.publish(&device.topic("telemetry"), format!(r#"{{"sensors":{{"n":{n}}}}}"#)).await.expect("PUBACK");
}

pub(super) async fn stored(database: &Database, n: usize) {
    let client = database.client().await;
    let n = i64::try_from(n).expect("small");
    eventually("every message is a row", || async {
        let row = client.query_one("select count(*), count(distinct extra->>'n') from telemetry", &[]).await.ok()?;
        let (rows, numbers): (i64, i64) = (row.get(0), row.get(1));
        assert_eq!(rows, numbers, "nothing is stored twice");
        (rows >= n).then_some(())
    })
    .await;
}

async fn conserved(app: &TestApp) {
    let m = &app.app().services().metrics;
    until("received = stored + duplicate + rejected", || {
        let done = m.mqtt_stored.get() + m.mqtt_duplicate.get();
        m.mqtt_received.get() == done
    })
    .await;
}

async fn follow(app: &TestApp, user: &User, home: &str) -> super::support::ws::Subscription {
    let running = app.app().services().metrics.subscriptions.clone();
    let subscription = user.subscribe(TELEMETRY, json!({"home": home})).await;
    until("the subscription runs", || running.get() > 0).await;
    subscription
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ingest_waits_for_a_database_that_is_down() {
    let (database, proxy, url) = proxied().await;
    let app = TestApp::builder().set("DATABASE_URL", url).start().await;
    let (home, owner) = app.home().await;
    let device = app.device(&owner, &home, "a").await;
    let mqtt = app.mqtt().await;
    let mut live = follow(&app, &owner, &home.id).await;
    let mut n = 0;
    for mode in [Mode::Cut, Mode::Stall, Mode::Cut] {
        for _ in 0..100 {
            report(mqtt, &device, n).await;
            n += 1;
        }
        proxy.set(mode);
        for _ in 0..300 {
            report(mqtt, &device, n).await;
            n += 1;
        }
        if mode == Mode::Cut {
            let asked = Instant::now();
            let code = owner.error_code("{ homes { id } }", json!({})).await;
            assert_eq!(code, "UNAVAILABLE");
            assert!(asked.elapsed() < Duration::from_secs(6), "answered after {:?}", asked.elapsed());
            let ready = http::get(app.addr(), "/readyz").await;
            assert_eq!((ready.status, http::get(app.addr(), "/livez").await.status), (503, 200));
        }
        proxy.set(Mode::Pass);
    }
    stored(&database, n).await;
    for expected in 0..n {
        assert_eq!(live.next().await["telemetry"]["extra"]["n"], json!(expected), "the subscriber misses nothing");
    }
    conserved(&app).await;
    http::until_ready(app.addr()).await;
}

/// A frozen database keeps its connections and answers nothing, so no error ends a wait.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_request_is_answered_while_the_database_is_frozen() {
    const LIMIT: Duration = Duration::from_secs(2);
    let (_database, proxy, url) = proxied().await;
    let app = TestApp::builder().set("DATABASE_URL", url).start().await;
    let (home, owner) = app.home().await;
    let device = app.device(&owner, &home, "a").await;
    let query = || owner.error_code("{ homes { id rooms { id } } }", json!({}));
    let send = "mutation($id: ID!) { sendCommand(input: {deviceId: $id, type: \"BEEP\"}) { id } }";
    let mutation = || owner.error_code(send, json!({"id": device.id}));
    proxy.set(Mode::Stall);
    for what in ["when it freezes", "while it is frozen"] {
        let asked = Instant::now();
        let (codes, mutation) = tokio::join!(join_all((0..30).map(|_| query())), mutation());
        assert!(codes.iter().all(|code| code == "UNAVAILABLE"), "{codes:?} {what}");
        assert!(["UNAVAILABLE", "OUTCOME_UNKNOWN"].contains(&mutation.as_str()), "{mutation} {what}");
        assert!(asked.elapsed() < LIMIT, "answered after {:?} {what}", asked.elapsed());
    }
    let asked = Instant::now();
    let unready = || async { (http::get(app.addr(), "/readyz").await.status == 503).then_some(()) };
    eventually("it is not ready", unready).await;
    assert!(asked.elapsed() < LIMIT, "unready after {:?}", asked.elapsed());
    let schema = owner.query("{ __typename }", json!({})).await;
    assert_eq!(schema["__typename"], "Query", "what needs no database is answered");
    proxy.set(Mode::Pass);
    http::until_ready(app.addr()).await;
    let homes = owner.query("{ homes { id } }", json!({})).await;
    assert_eq!(homes["homes"][0]["id"], json!(home.id));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_does_not_time_out_while_the_database_blocks_ingest() {
    let app = TestApp::builder().set("PRESENCE_TIMEOUT_SECONDS", "4").start().await;
    let (home, owner) = app.home().await;
    let (silent, present) = (app.device(&owner, &home, "a").await, app.device(&owner, &home, "b").await);
    let mut client = app.database().client().await;
    let is = async |device: &Device, condition: &str| {
        let query = format!("select from device_states where device_id = {} and {condition}", device.id);
        let client = app.database().client().await;
        eventually(condition, || async { (!client.query(&query, &[]).await.ok()?.is_empty()).then_some(()) }).await;
    };
    report(app.mqtt().await, &silent, 0).await;
    is(&silent, "online and last_seen_at < now() - interval '1 s'").await;
    report(app.mqtt().await, &present, 1).await;
    is(&present, "online").await;

    // The update of the silent device to offline has to wait, for longer than the other device's time-out.
    let lock = client.transaction().await.expect("a transaction");
    lock.batch_execute("lock table device_states in share row exclusive mode").await.expect("the lock");
    let m = app.app().services().metrics.clone();
    let retries = m.ingest_retries.get();
    // Each attempt waits two seconds for the lock.
    within(Duration::from_secs(40), "ingest is blocked", || {
        std::future::ready((m.ingest_retries.get() >= retries + 5).then_some(()))
    })
    .await;
    lock.rollback().await.expect("unlocked");
    is(&silent, "not online").await;
    report(app.mqtt().await, &present, 2).await;
    stored(app.database(), 3).await;
    is(&present, "online and online_changed_at <= last_seen_at - interval '8 s'").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_that_breaks_causes_no_duplicates() {
    let broker = Broker::start().await;
    let proxy = Proxy::start(Target::Tcp(([127, 0, 0, 1], broker.port()).into())).await;
    let url = format!("mqtt://{}", proxy.addr());
    let app = TestApp::builder().broker(broker.port()).set("MQTT_BROKER_URL", url).start().await;
    let (home, owner) = app.home().await;
    let device = app.device(&owner, &home, "a").await;
    let mqtt = std::sync::Arc::new(app.another_mqtt().await);
    const ROUNDS: usize = 8;
    const BURST: usize = 400;
    let mut rng = rng();
    for round in 0..ROUNDS {
        let burst: Vec<_> = (0..BURST)
            .map(|i| {
                let (mqtt, device) = (mqtt.clone(), device.clone());
                tokio::spawn(async move { report(&mqtt, &device, round * BURST + i).await })
            })
            .collect();
        let m = app.app().services().metrics.clone();
        let goal = m.mqtt_stored.get() + rng.u64(1..100);
        until("some are stored", || m.mqtt_stored.get() >= goal).await;
        let errors = m.mqtt_connection_errors.get();
        proxy.set(Mode::Cut);
        for publish in burst {
            publish.await.expect("PUBACK");
        }
        until("the link breaks", || m.mqtt_connection_errors.get() > errors).await;
        proxy.set(Mode::Pass);
        stored(app.database(), (round + 1) * BURST).await;
    }
    conserved(&app).await;
    let m = &app.app().services().metrics;
    assert!(m.mqtt_connection_errors.get() >= ROUNDS as u64);
    assert_eq!(m.mqtt_sessions_lost.get(), 1, "the broker kept the session");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_link_comes_back_after_a_broker_restart_with_or_without_its_session() {
    let mut broker = Broker::start().await;
    let app = TestApp::builder().broker(broker.port()).start().await;
    let (home, owner) = app.home().await;
    let device = app.device(&owner, &home, "a").await;
    let m = app.app().services().metrics.clone();
    report(app.mqtt().await, &device, 0).await;
    stored(app.database(), 1).await;

    broker.stop();
    until("the link is down", || m.mqtt_connected.get() == 0).await;
    let ready = http::get(app.addr(), "/readyz").await;
    assert!(ready.status == 503 && ready.json()["checks"]["database"] == "ok", "{:?}", ready.json());
    broker.restart().await;
    until("the link is up", || m.mqtt_connected.get() == 1).await;
    assert_eq!(m.mqtt_sessions_lost.get(), 1, "the broker saved the session");
    report(&app.another_mqtt().await, &device, 1).await;
    stored(app.database(), 2).await;

    broker.kill();
    until("the link is down", || m.mqtt_connected.get() == 0).await;
    broker.restart().await;
    until("the link is up", || m.mqtt_connected.get() == 1).await;
    report(&app.another_mqtt().await, &device, 2).await;
    stored(app.database(), 3).await;
    conserved(&app).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backlog_while_the_database_is_down_costs_no_memory() {
    const MESSAGES: usize = 40_000;
    let (database, proxy, url) = proxied().await;
    let broker = Broker::start().await;
    let server = Server::start(&url, broker.port(), &[]).await;
    let client = database.client().await;
    client
        .batch_execute(
            "insert into homes (key, name) values ('1', 'Home');
             insert into devices (home_id, key, name, type) values (1, 'a', 'Device', 'OTHER')",
        )
        .await
        .expect("a home and a device");
    let mqtt = std::sync::Arc::new(Mqtt::connect(broker.port()).await);
    let topic = format!("{}/1/a/telemetry", server.prefix());
    let before = rss_kib(server.pid());
    proxy.set(Mode::Cut);
    let window = std::sync::Arc::new(tokio::sync::Semaphore::new(500));
    let padding = "x".repeat(1_500);
    for n in 0..MESSAGES {
        let permit = window.clone().acquire_owned().await.expect("open");
        let (mqtt, topic) = (mqtt.clone(), topic.clone());
        let payload = format!(r#"{{"sensors":{{"n":{n}}},"metadata":{{"padding":"{padding}"}}}}"#);
        tokio::spawn(async move {
            mqtt.publish(&topic, payload).await.expect("PUBACK");
            drop(permit);
        });
    }
    let _all = window.acquire_many(500).await.expect("open");
    let grown = rss_kib(server.pid()).saturating_sub(before);
    println!("{MESSAGES} messages of 1.6 KB waiting: the server grew by {grown} KiB");
    assert!(grown < 64 * 1024, "grew by {grown} KiB");
    proxy.set(Mode::Pass);
    stored(&database, MESSAGES).await;
}

fn rss_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_starts_before_its_database_and_its_broker() {
    let mut broker = Broker::start().await;
    broker.stop();
    let (_database, proxy, url) = proxied().await;
    proxy.set(Mode::Cut);
    let mut server = {
        let name = unique("t");
        let mut server = Server::prepare(&url, broker.port(), &[("MQTT_CLIENT_ID", &name)]);
        server.spawn();
        server
    };
    let addr = server.addr();
    eventually("it is live", || async {
        tokio::net::TcpStream::connect(addr).await.ok()?;
        (http::get(addr, "/livez").await.status == 200).then_some(())
    })
    .await;
    let checks = http::get(addr, "/readyz").await.json()["checks"].clone();
    assert!(checks["database"] != "ok" && checks["broker"] != "ok", "{checks}");
    proxy.set(Mode::Pass);
    broker.restart().await;
    server.ready().await;
    assert!(server.stop().await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_whose_answer_is_lost_has_an_unknown_outcome() {
    let (database, proxy, url) = proxied().await;
    let app = TestApp::builder().set("DATABASE_URL", url).start().await;
    let (home, owner) = app.home().await;
    let device = app.device(&owner, &home, "a").await;
    let client = database.client().await;
    let slow = "create function slow_commit() returns trigger language plpgsql as
                    $$ begin perform pg_sleep(3); return null; end $$;
                create constraint trigger slow_commit after insert on commands deferrable initially deferred
                    for each row execute function slow_commit()";
    client.batch_execute(slow).await.expect("a trigger");
    let send = "mutation($id: ID!) { sendCommand(input: {deviceId: $id, type: \"BEEP\"}) { id } }";
    let (code, ()) = tokio::join!(owner.error_code(send, json!({"id": device.id})), async {
        let commits = "select 1 from pg_stat_activity
                       where datname = current_database() and wait_event = 'PgSleep' and query ilike 'commit%'";
        eventually("it commits", || async { client.query_opt(commits, &[]).await.ok()?.map(drop) }).await;
        proxy.set(Mode::Cut);
    });
    assert_eq!(code, "OUTCOME_UNKNOWN");
    // The database committed although the answer did not arrive.
    eventually("it is committed", || async { client.query_opt("select from commands", &[]).await.ok()?.map(drop) })
        .await;
}
