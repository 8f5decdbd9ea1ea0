//! Several servers on one database and one topic prefix: of those with a plain subscription one ingests, and the next one
//! continues where it ended.

mod broker;
mod groups;
mod sessions;
mod streams;

use std::future::ready;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use smarthome::app::App;
use smarthome::metrics::Metrics;

use super::outages::{report, stored};
use super::support::app::{Builder, Database, TestApp};
use super::support::broker::Broker;
use super::support::mqtt::Mqtt;
use super::support::proxy::Mode;
use super::support::user::{Device, User};
use super::support::{eventually, http, rng, unique, until, within};

/// For attempts to connect, whose pauses grow to 30 s.
const LONG: Duration = Duration::from_secs(60);

/// The process id of the database connection by which a server has the right to ingest.
const HOLDER: &str = "select pid from pg_locks where locktype = 'advisory' and classid = 7006 and granted
                      and database = (select oid from pg_database where datname = current_database())";

fn beside(first: &TestApp) -> Builder {
    TestApp::builder().set("MQTT_TOPIC_PREFIX", first.prefix())
}

async fn ingests(metrics: &Metrics) {
    until("it ingests", || metrics.mqtt_connected.get() == 1 && metrics.ingest_standby.get() == 0).await;
}

async fn waits(metrics: &Metrics) {
    until("it waits", || metrics.mqtt_connected.get() == 0 && metrics.ingest_standby.get() == 1).await;
}

/// What `/readyz` says of the broker, with its status.
async fn broker_check(app: &App) -> (u16, Value) {
    let ready = http::get(app.http_addr(), "/readyz").await;
    (ready.status, ready.json()["checks"]["broker"].clone())
}

/// The numbers of a device's readings in the API, in order.
async fn numbers(user: &User, device: &Device) -> Vec<u64> {
    let query = "query($id: ID!) { device(id: $id) { telemetry(first: 100) { nodes { extra } } } }";
    let nodes = user.query(query, json!({"id": device.id})).await["device"]["telemetry"]["nodes"].take();
    let number = |node: &Value| node["extra"]["n"].as_u64().expect("a number");
    let mut numbers: Vec<u64> = nodes.as_array().expect("nodes").iter().map(number).collect();
    numbers.sort_unstable();
    numbers
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_servers_one_ingests_and_the_other_takes_over() {
    let first = TestApp::start().await;
    let (home, owner) = first.home().await;
    let device = first.device(&owner, &home, "a").await;
    let mut mqtt = first.another_mqtt().await;
    ingests(&first.app().services().metrics).await;
    let second = beside(&first).second(&first).await;
    let there = owner.at(second.http_addr());
    waits(&second.services().metrics).await;
    let standby = json!("standby: another server ingests");
    eventually("it is ready", || async { (broker_check(&second).await == (200, standby.clone())).then_some(()) }).await;

    for n in 0..5 {
        report(&mqtt, &device, n).await;
    }
    stored(first.database(), 5).await;
    assert_eq!((numbers(&owner, &device).await, numbers(&there, &device).await), ((0..5).collect(), (0..5).collect()));
    assert_eq!(second.services().metrics.mqtt_received.get(), 0);

    // The one that ingests sends what the other one accepts.
    mqtt.subscribe(&device.topic("commands")).await.expect("SUBACK");
    let send = "mutation($id: ID!) { sendCommand(input: {deviceId: $id, type: \"BEEP\"}) { id } }";
    let id = there.query(send, json!({"id": device.id})).await["sendCommand"]["id"].take();
    let command: Value = serde_json::from_slice(&mqtt.next().await.1).expect("JSON");
    assert_eq!(command["commandId"], id);
    let status = "query($id: ID!) { command(id: $id) { status } }";
    eventually("its status is known to the other one", || async {
        (there.query(status, json!({"id": id})).await["command"]["status"] == "SENT").then_some(())
    })
    .await;

    // Nobody is connected when these arrive: the session of the first one has them.
    let database = first.stop().await;
    for n in 5..10 {
        report(&mqtt, &device, n).await;
    }
    stored(&database, 10).await;
    ingests(&second.services().metrics).await;
    assert_eq!(broker_check(&second).await, (200, json!("ok")));
    assert_eq!(numbers(&there, &device).await, (0..10).collect::<Vec<_>>());
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_that_lose_their_database_connections_store_nothing_twice() {
    const ROUNDS: usize = 8;
    const BURST: usize = 50;
    let first = TestApp::start().await;
    let (home, owner) = first.home().await;
    let device = first.device(&owner, &home, "a").await;
    ingests(&first.app().services().metrics).await;
    let second = beside(&first).second(&first).await;
    let metrics = [first.app().services().metrics.clone(), second.services().metrics.clone()];
    waits(&metrics[1]).await;
    let (mqtt, sql) = (Arc::new(first.another_mqtt().await), first.database().client().await);
    let end_connection = async || {
        let pid: i32 = eventually("a server ingests", || async { sql.query_opt(HOLDER, &[]).await.ok()? }).await.get(0);
        sql.execute("select pg_terminate_backend($1)", &[&pid]).await.expect("terminated");
    };
    let mut rng = rng();
    let mut active_servers = Vec::new();
    for round in 0..ROUNDS {
        let active = usize::from(metrics[1].mqtt_connected.get() == 1);
        active_servers.push(active);
        end_connection().await;
        if round == 0 {
            // A server that has nothing to write does not notice: the other one takes the lock, and the session with it.
            ingests(&metrics[1 - active]).await;
            waits(&metrics[active]).await;
        }
        let publishes: Vec<_> = (0..BURST)
            .map(|n| {
                let (mqtt, device) = (mqtt.clone(), device.clone());
                tokio::spawn(async move { report(&mqtt, &device, round * BURST + n).await })
            })
            .collect();
        let n_stored = || metrics.iter().map(|metrics| metrics.mqtt_stored.get()).sum::<u64>();
        let goal = n_stored() + rng.u64(1..30);
        until("some are stored", || n_stored() >= goal).await;
        end_connection().await;
        for publish in publishes {
            publish.await.expect("PUBACK");
        }
        stored(first.database(), (round + 1) * BURST).await;
        let is_settled = || {
            let of = |value: fn(&Metrics) -> i64| metrics.each_ref().map(value);
            of(|metrics| metrics.mqtt_connected.get()) == of(|metrics| 1 - metrics.ingest_standby.get())
                && of(|metrics| metrics.mqtt_connected.get()).iter().sum::<i64>() == 1
        };
        until("one ingests and the other waits", is_settled).await;
    }
    for m in &metrics {
        assert_eq!(m.mqtt_received.get(), m.mqtt_stored.get() + m.mqtt_duplicate.get() + m.mqtt_left.get());
    }
    println!(
        "{active_servers:?} {} messages changed the server",
        metrics.iter().map(|m| m.mqtt_left.get()).sum::<u64>()
    );
    second.stop().await;
    first.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_the_broker_refuses_is_given_up() {
    let (database, prefix) = (Database::create().await, unique("t"));
    let old = TestApp::builder().set("MQTT_TOPIC_PREFIX", &prefix).start_on(database).await;
    ingests(&old.app().services().metrics).await;
    let (home, owner) = old.home().await;
    let device = old.device(&owner, &home, "a").await;
    let database = old.stop().await;

    let broker = Broker::start_with("allow_anonymous true\nclientid_prefixes new-").await;
    let new = TestApp::builder().broker(broker.port()).set("MQTT_TOPIC_PREFIX", &prefix);
    let new = new.set("MQTT_CLIENT_ID", "new-server").start_on(database).await;
    ingests(&new.app().services().metrics).await;
    let mqtt = Mqtt::connect_with(broker.port(), "new-device", None).await.expect("the broker lets us in");
    report(&mqtt, &device, 0).await;
    stored(new.database(), 1).await;
    new.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_password_gives_no_session_up() {
    const RIGHT: (&str, &str) = ("server", "the right one");
    let broker =
        Broker::with_rules(&[RIGHT, ("device", "d")], |_| "pattern readwrite #\npattern read $SYS/#\n".to_owned());
    let (database, prefix, broker) = (Database::create().await, unique("t"), broker.await);
    let server = || {
        let server = TestApp::builder().broker(broker.port()).set("MQTT_TOPIC_PREFIX", &prefix);
        server.set("MQTT_USERNAME", RIGHT.0).set("MQTT_PASSWORD", RIGHT.1)
    };
    let old = server().set("MQTT_CLIENT_ID", "old").start_on(database).await;
    ingests(&old.app().services().metrics).await;
    let (home, owner) = old.home().await;
    let device = old.device(&owner, &home, "a").await;
    let database = old.stop().await;
    let mqtt = Mqtt::connect_as(broker.port(), Some(("device", "d"))).await.expect("the broker lets us in");
    for n in 0..5 {
        report(&mqtt, &device, n).await;
    }

    broker.set_password(RIGHT.0, "another one");
    let new = server().set("MQTT_CLIENT_ID", "new").start_on(database).await;
    let metrics = new.app().services().metrics.clone();
    // Pauses double: the seventh attempt comes more than the five seconds after the first for which a refusal may last.
    within(LONG, "it is refused for long", || ready((metrics.mqtt_connection_errors.get() >= 8).then_some(()))).await;
    broker.set_password(RIGHT.0, RIGHT.1);
    within(LONG, "it is let in", || ready((metrics.mqtt_connected.get() == 1).then_some(()))).await;
    stored(new.database(), 5).await;
    let sql = new.database().client().await;
    let session = sql.query_one("select client_id from ingest_sessions where plain_prefix is not null", &[]).await;
    assert_eq!(session.expect("one session").get::<_, String>(0), "old");
    new.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_has_to_start_anew_does_so_at_the_next_start_as_well() {
    let mut broker = Broker::start().await;
    let (database, prefix) = (Database::create().await, unique("t"));
    let server =
        |id: &str| TestApp::builder().broker(broker.port()).set("MQTT_TOPIC_PREFIX", &prefix).set("MQTT_CLIENT_ID", id);
    let (shared, plain) = (server("one").set("MQTT_SHARED_GROUP", "g"), [server("one"), server("one")]);
    let app = shared.start_on(database).await;
    ingests(&app.app().services().metrics).await;
    let (home, owner) = app.home().await;
    let device = app.device(&owner, &home, "a").await;
    let mqtt = Mqtt::connect(broker.port()).await;
    let mut database = app.stop().await;
    // It waits in the session of the group, which a plain subscription must not continue: here another session could have
    // received it too.
    report(&mqtt, &device, 0).await;
    drop(mqtt);
    broker.stop();
    let [before, after] = plain;
    let dies = before.start_on(database).await;
    let metrics = dies.app().services().metrics.clone();
    until("its term has begun", || metrics.mqtt_connection_errors.get() > 0).await;
    database = dies.stop().await;
    broker.restart().await;
    let app = after.start_on(database).await;
    ingests(&app.app().services().metrics).await;
    let mqtt = Mqtt::connect(broker.port()).await;
    report(&mqtt, &device, 1).await;
    stored(app.database(), 1).await;
    assert_eq!(numbers(&owner.at(app.addr()), &device).await, [1]);
    let sql = app.database().client().await;
    let stale = sql.query_one("select bool_or(is_stale) from ingest_sessions", &[]).await.expect("a row");
    assert!(!stale.get::<_, bool>(0));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_without_a_database_does_not_take_the_session_back() {
    let database = Database::create().await;
    let (proxy, url) = database.proxied().await;
    let first = TestApp::builder().set("DATABASE_URL", url).start_on(database).await;
    let (home, owner) = first.home().await;
    let device = first.device(&owner, &home, "a").await;
    let here = first.app().services().metrics.clone();
    ingests(&here).await;
    let second = beside(&first).second(&first).await;
    let there = second.services().metrics.clone();
    waits(&there).await;

    let mqtt = first.another_mqtt().await;
    proxy.set(Mode::Stall);
    report(&mqtt, &device, 0).await;
    until("the first one has received it", || here.mqtt_received.get() == 1).await;
    proxy.set(Mode::Cut);
    ingests(&there).await;
    // Much longer than the first pause of a connection that was lost.
    for n in 1..300 {
        report(&mqtt, &device, n).await;
    }
    stored(first.database(), 300).await;
    proxy.set(Mode::Pass);
    waits(&here).await;
    assert_eq!((there.mqtt_connection_errors.get(), here.mqtt_connection_errors.get()), (0, 1));
    assert_eq!((here.mqtt_received.get(), here.mqtt_left.get()), (1, 1));
    second.stop().await;
    first.stop().await;
}
