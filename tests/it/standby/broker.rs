//! Servers that do not reach the broker, or do not get their turn.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;

use super::super::outages::{report, stored};
use super::super::support::app::{Database, TestApp};
use super::super::support::broker::Broker;
use super::super::support::mqtt::Mqtt;
use super::super::support::ports::free_port;
use super::super::support::proxy::{Mode, Proxy, Target};
use super::super::support::services::services;
use super::super::support::{eventually, unique, within};
use super::{LONG, beside, broker_check, ingests, waits};

/// More than the time for which a server keeps its turn without the broker, with the pauses before the next one has it.
const KEPT: Duration = Duration::from_secs(90);

fn says(check: &(u16, Value), text: &str) -> Option<()> {
    (check.0 == 503 && check.1.as_str()?.contains(text)).then_some(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_that_does_not_reach_the_broker_is_not_ready() {
    let first = TestApp::start().await;
    ingests(&first.app().services().metrics).await;
    let second = beside(&first).broker(free_port()).second(&first).await;
    waits(&second.services().metrics).await;
    eventually("it says so", || async { says(&broker_check(&second).await, "standby, but") }).await;
    second.stop().await;
    first.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_has_lost_the_broker_lets_the_next_one_ingest() {
    let broker = SocketAddr::from(([127, 0, 0, 1], services().mqtt_port()));
    let proxy = Proxy::start(Target::Tcp(broker)).await;
    let first = TestApp::builder().broker(proxy.addr().port()).start().await;
    let (home, owner) = first.home().await;
    let device = first.device(&owner, &home, "a").await;
    ingests(&first.app().services().metrics).await;
    let second = beside(&first).second(&first).await;
    let metrics = second.services().metrics.clone();
    eventually("it can take over", || async { (broker_check(&second).await.0 == 200).then_some(()) }).await;

    proxy.set(Mode::Cut);
    let mqtt = Mqtt::connect(services().mqtt_port()).await;
    report(&mqtt, &device, 0).await;
    within(KEPT, "the second one ingests", || std::future::ready((metrics.mqtt_connected.get() == 1).then_some(())))
        .await;
    stored(first.database(), 1).await;
    eventually("the first one says why", || async { says(&broker_check(first.app()).await, "standby, but") }).await;
    proxy.set(Mode::Pass);
    eventually("it can take over", || async { (broker_check(first.app()).await.0 == 200).then_some(()) }).await;
    assert_eq!(metrics.mqtt_connection_errors.get(), 0);
    second.stop().await;
    first.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_whose_session_another_one_uses_says_so() {
    let (database, client_id) = (Database::create().await, unique("t"));
    let sql = database.client().await;
    sql.execute("select pg_advisory_lock(7003, hashtext($1))", &[&client_id]).await.expect("the lock");
    let app = TestApp::builder().set("MQTT_CLIENT_ID", &client_id).start_on(database).await;
    let text = "another server uses the client id";
    eventually("it says so", || async { says(&broker_check(app.app()).await, text) }).await;
    sql.execute("select pg_advisory_unlock(7003, hashtext($1))", &[&client_id]).await.expect("unlocked");
    ingests(&app.app().services().metrics).await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_database_does_not_keep_the_link_down() {
    let (mut broker, database) = (Broker::start().await, Database::create().await);
    let (proxy, url) = database.proxied().await;
    let app = TestApp::builder().broker(broker.port()).set("DATABASE_URL", url).start_on(database).await;
    let metrics = app.app().services().metrics.clone();
    ingests(&metrics).await;
    // Longer than it takes to open a connection: the server must keep the one it has.
    proxy.set(Mode::Delay(Duration::from_secs(2)));
    broker.stop();
    broker.restart().await;
    let is_up = || {
        std::future::ready(
            (metrics.mqtt_connection_errors.get() > 0 && metrics.mqtt_connected.get() == 1).then_some(()),
        )
    };
    within(LONG, "it is connected again", is_up).await;
    proxy.set(Mode::Pass);
    app.stop().await;
}
