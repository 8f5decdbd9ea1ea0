//! A restart of the server while a user has as many sockets open as one may.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::support::app::Database;
use super::support::mqtt::Mqtt;
use super::support::server::Server;
use super::support::services::services;
use super::support::soon;
use super::support::user::User;
use super::support::ws::{Frame, Subscription};

/// All that one user may have open.
const SOCKETS: usize = 100;
/// The temperature that is reported before the stop.
const BEFORE: f64 = 20.0;
const LIVE: &str =
    "subscription($home: ID!, $after: ID) { telemetry(homeId: $home, after: $after) { id sensors { temperature } } }";

/// Follows a home until the server closes the socket, and again once it is ready. What it received then that was reported
/// after the stop.
async fn follow(
    user: User,
    addr: SocketAddr,
    home: String,
    steps: watch::Sender<usize>,
    mut ready: watch::Receiver<bool>,
) -> Vec<Value> {
    let mut stream = user.subscribe(LIVE, json!({ "home": home })).await;
    steps.send_modify(|n| *n += 1);
    let mut last = stream.next().await["telemetry"]["id"].take();
    steps.send_modify(|n| *n += 1);
    loop {
        match stream.frame().await {
            Frame::Json(mut event) if event["type"] == "next" => {
                last = event["payload"]["data"]["telemetry"]["id"].take();
            }
            end => {
                assert_eq!(end, Frame::Closed(1001, "the server is stopping".to_owned()));
                break;
            }
        }
    }
    soon("the server is ready", ready.wait_for(|ready| *ready)).await.expect("the test runs");
    let mut stream = Subscription::start(addr, user.token(), LIVE, json!({"home": home, "after": last})).await;
    let mut received = Vec::new();
    while received.len() < 2 {
        let temperature = stream.next().await["telemetry"]["sensors"]["temperature"].take();
        if temperature != BEFORE {
            received.push(temperature);
        }
    }
    received
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_sockets_of_a_user_are_live_again_after_a_restart() {
    let (database, broker) = (Database::create().await, services().mqtt_port());
    let mut server = Server::start(&database.url(), broker, &[("RATE_LIMITS", "on")]).await;
    let owner = User::register(server.addr()).await;
    let home = owner.home().await;
    let device = owner.device(server.prefix(), &home, "sensor").await;
    let mqtt = Mqtt::connect(broker).await;
    let report = async |temperature: f64| {
        let payload = json!({"sensors": {"temperature": temperature}}).to_string();
        mqtt.publish(&device.topic("telemetry"), payload).await.expect("the broker takes it");
    };

    let addr = server.addr();
    let ((steps, mut n_steps), (tell, ready)) = (watch::channel(0), watch::channel(false));
    let follow = |_| follow(owner.clone(), addr, home.id.clone(), steps.clone(), ready.clone());
    let mut clients: JoinSet<_> = (0..SOCKETS).map(follow).collect();
    soon("all sockets are open", n_steps.wait_for(|n| *n == SOCKETS)).await.expect("the clients run");
    // The protocol does not say when a subscription has begun.
    let reports = async {
        let mut pace = tokio::time::interval(Duration::from_millis(100));
        loop {
            pace.tick().await;
            report(BEFORE).await;
        }
    };
    tokio::select! {
        () = reports => {}
        all = soon("all have an event", n_steps.wait_for(|n| *n == 2 * SOCKETS)) => drop(all.expect("the clients run")),
    }
    assert!(server.stop().await.success());
    report(21.0).await;
    server.restart().await;
    tell.send_replace(true);
    report(22.0).await;
    while let Some(received) = soon("a client is live again", clients.join_next()).await {
        assert_eq!(received.expect("no socket is refused"), [json!(21.0), json!(22.0)]);
    }
    server.stop().await;
}
