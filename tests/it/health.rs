//! `smarthome health`, as a container's health check runs it.

use std::collections::HashMap;
use std::net::SocketAddr;

use crate::support::app::TestApp;
use crate::support::binary;
use crate::support::broker::Broker;
use crate::support::{eventually, http, until};

async fn asks(addr: SocketAddr, arguments: &[&str]) -> (bool, String) {
    let variables = HashMap::from([("HTTP_ADDR".to_owned(), addr.to_string())]);
    let output = binary::run(&[&["health"], arguments].concat(), &variables).await;
    (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// Probes need no login, so they must not use up the database connections of the API.
#[tokio::test(flavor = "multi_thread")]
async fn many_probes_query_the_database_once_a_second() {
    let app = TestApp::start().await;
    http::until_ready(app.addr()).await;
    let statements = &app.app().services().metrics.db_statements;
    let (before, started) = (statements.get(), std::time::Instant::now());
    for _ in 0..10 {
        let probes = (0..20).map(|n| http::get(app.addr(), if n % 2 == 0 { "/readyz" } else { "/health" }));
        futures_util::future::join_all(probes).await;
    }
    // The server itself sends a few statements when it starts.
    let most = started.elapsed().as_secs() + 5;
    assert!(statements.get() - before <= most, "{} statements for 200 probes", statements.get() - before);
    app.stop().await;
}

/// An orchestrator waits for a server by asking again and again.
#[tokio::test(flavor = "multi_thread")]
async fn readiness_is_seen_as_soon_as_it_is_true() {
    let mut broker = Broker::start().await;
    let app = TestApp::builder().broker(broker.port()).start().await;
    http::until_ready(app.addr()).await;
    let connected = &app.app().services().metrics.mqtt_connected;
    broker.stop();
    eventually("it is not ready", || async { (!http::is_ready(app.addr()).await).then_some(()) }).await;
    broker.restart().await;
    until("it is connected", || connected.get() == 1).await;
    let asked = std::time::Instant::now();
    http::until_ready(app.addr()).await;
    assert!(asked.elapsed() < std::time::Duration::from_millis(500), "ready after {:?}", asked.elapsed());
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_exit_status_tells_the_health() {
    let app = TestApp::start().await;
    assert_eq!(asks(app.addr(), &[]).await, (true, String::new()));
    let everywhere = SocketAddr::from(([0, 0, 0, 0], app.addr().port()));
    assert_eq!(asks(everywhere, &[]).await, (true, String::new()));
    let ready = || async { asks(app.addr(), &["--ready"]).await.0.then_some(()) };
    eventually("it is ready", ready).await;

    // Without a broker the server is alive but not ready.
    let lonely = TestApp::builder().set("MQTT_BROKER_URL", "mqtt://127.0.0.1:1").start().await;
    assert!(asks(lonely.addr(), &[]).await.0);
    let (is_ready, why) = asks(lonely.addr(), &["--ready"]).await;
    assert!(!is_ready && why.contains("no connection to the MQTT broker"), "{why}");
    let addr = lonely.addr();
    lonely.stop().await;
    assert!(!asks(addr, &[]).await.0);
    app.stop().await;
}
