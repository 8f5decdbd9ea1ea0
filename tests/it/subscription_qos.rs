//! A broker that delivers to the server with QoS 0 only.

use super::support::app::Database;
use super::support::broker::Broker;
use super::support::server::Server;
use super::support::{eventually, http, until};

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_with_qos_0_is_reported_and_the_server_is_not_ready() {
    let (database, mut broker) =
        (Database::create().await, Broker::start_with("allow_anonymous true\nmax_qos 0").await);
    let mut server = Server::prepare(&database.url(), broker.port(), &[]);
    server.spawn();
    let filter = format!("{}/+/+/telemetry", server.prefix());
    until("the log names the filter and the cure", || {
        let log = server.log();
        log.lines().any(|line| line.contains("ERROR") && line.contains(&filter) && line.contains("max_qos"))
    })
    .await;
    let addr = server.addr();
    let ready = eventually("it answers", || async {
        tokio::net::TcpStream::connect(addr).await.ok()?;
        let ready = http::get(addr, "/readyz").await;
        (ready.json()["checks"]["revocations"] == "ok").then_some(ready)
    })
    .await;
    assert!(ready.status == 503 && ready.json()["checks"]["broker"] != "ok", "{}", ready.json());

    broker.stop();
    let file = broker.folder().join("mosquitto.conf");
    let text = std::fs::read_to_string(&file).expect("the configuration");
    std::fs::write(&file, text.replace("max_qos 0", "")).expect("written");
    broker.restart().await;
    server.ready().await;
    assert!(server.stop().await.success());
}
