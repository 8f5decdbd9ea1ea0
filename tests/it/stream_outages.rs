//! No stream ends because the database is unavailable for a while, and no request fails once it is back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use smarthome::dev::postgres::Postgres;
use smarthome::hub::{CAPACITY, Hub, HubEvent, HubReceiver};
use smarthome::ids::{DeviceId, HomeId};

use super::support::app::{Database, TestApp};
use super::support::proxy::Mode;
use super::support::user::{Device, User};
use super::support::ws::Subscription;
use super::support::{soon, unique, until};
use tokio::task::JoinSet;

const TELEMETRY: &str = "subscription($id: ID) { telemetry(homeId: $id) { firmwareVersion } }";
const STATES: &str = "subscription($id: ID) { deviceStatus(homeId: $id) { firmwareVersion } }";
const COMMANDS: &str = "subscription($id: ID) { commandUpdates(homeId: $id) { type } }";
const CONFIGS: &str = "subscription($id: ID) { configUpdates(homeId: $id) { config } }";

/// Makes a change that each of the four streams delivers, and waits for it in all of them.
async fn change(app: &TestApp, owner: &User, device: &Device, streams: &mut [Subscription; 4], name: &str) {
    app.publish(device, "status", json!({"online": true, "status": {"firmwareVersion": name}}).to_string()).await;
    let telemetry = json!({"sensors": {"humidity": 50}, "metadata": {"firmwareVersion": name}});
    app.publish(device, "telemetry", telemetry.to_string()).await;
    let send = "mutation($id: ID!, $type: String!) { sendCommand(input: {deviceId: $id, type: $type}) { id } }";
    owner.query(send, json!({"id": device.id, "type": name})).await;
    let push = "mutation($id: ID!, $config: JSON!) { pushConfig(input: {deviceId: $id, config: $config}) { version } }";
    owner.query(push, json!({"id": device.id, "config": {"name": name}})).await;
    let [readings, states, commands, configs] = streams;
    deliver(readings, "/telemetry/firmwareVersion", name).await;
    deliver(states, "/deviceStatus/firmwareVersion", name).await;
    deliver(commands, "/commandUpdates/type", name).await;
    deliver(configs, "/configUpdates/config/name", name).await;
}

/// Waits for the event that has this value; fails the test when the stream ends or delivers an error.
async fn deliver(stream: &mut Subscription, pointer: &str, value: &str) {
    let found = async { while stream.next().await.pointer(pointer).and_then(Value::as_str) != Some(value) {} };
    soon(&format!("{pointer} is {value}"), found).await;
}

async fn subscribe_to_all(owner: &User, home: &str) -> [Subscription; 4] {
    let mut streams = Vec::new();
    for query in [TELEMETRY, STATES, COMMANDS, CONFIGS] {
        streams.push(owner.subscribe(query, json!({ "id": home })).await);
    }
    streams.try_into().ok().expect("four")
}

/// Publishes the hub's next event again until the hub drops events: its subscribers must read the database.
async fn overflow<T>(hub: &Hub<T>, (home, device): (HomeId, DeviceId), receiver: &mut HubReceiver<T>) {
    let HubEvent::Published(event) = soon("an event", receiver.recv()).await else { panic!("no event") };
    for _ in 0..40 * CAPACITY {
        hub.publish(home, device, &event.value);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_stream_ends_while_the_database_is_away() {
    let database = Database::create().await;
    let (proxy, url) = database.proxied().await;
    let app = TestApp::builder().set("DATABASE_URL", url).start().await;
    let (home, owner) = app.home().await;
    let device = app.device(&owner, &home, "a").await;
    let mut streams = subscribe_to_all(&owner, &home.id).await;
    let services = app.app().services();
    let metrics = &services.metrics;
    until("all streams run", || metrics.subscriptions.get() == 4).await;
    let home: HomeId = home.id.parse().expect("an id");
    let of = (home, device.id.parse().expect("an id"));
    let (states, commands, configs) = (&services.states, services.commands.hub(), services.configs.hub());
    let mut events = (states.subscribe(home, None), commands.subscribe(home, None), configs.subscribe(home, None));
    change(&app, &owner, &device, &mut streams, "BEFORE").await;

    proxy.set(Mode::Cut);
    overflow(states, of, &mut events.0).await;
    overflow(commands, of, &mut events.1).await;
    overflow(configs, of, &mut events.2).await;
    // A query waits for a connection as long as a stream does.
    for _ in 0..2 {
        assert_eq!(owner.error_code("{ homes { id } }", json!({})).await, "UNAVAILABLE");
    }
    proxy.set(Mode::Pass);

    change(&app, &owner, &device, &mut streams, "AFTER").await;
    assert_eq!((metrics.subscriptions.get(), metrics.subscriptions_lagged.get()), (4, 0));
    assert!(metrics.subscription_catch_ups.get() > 0, "the hubs dropped events");
}

/// Asks 40 times a second, whether answers come or not. When each request began, and the code of its error.
async fn ask(owner: User, stop: Arc<AtomicBool>) -> Vec<(Instant, Option<String>)> {
    let (mut ticks, mut requests) = (tokio::time::interval(Duration::from_millis(25)), JoinSet::new());
    while !stop.load(Ordering::Relaxed) {
        ticks.tick().await;
        let owner = owner.clone();
        requests.spawn(async move {
            let began = Instant::now();
            let answer = owner.post("{ homes { id devices(first: 1) { nodes { id } } } }", json!({})).await.json();
            let code = answer.pointer("/errors/0/extensions/code").map(|code| code.as_str().unwrap_or("?").to_owned());
            (began, code)
        });
    }
    requests.join_all().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_restart_of_the_database_no_request_fails_and_every_stream_goes_on() {
    let root = std::env::temp_dir().join(unique("smarthome-restart"));
    let mut postgres = Postgres::start(&root).expect("PostgreSQL starts");
    let app = TestApp::builder().set("DATABASE_URL", postgres.url()).start().await;
    let (home, owner) = app.home().await;
    let device = app.device(&owner, &home, "a").await;
    let mut streams = subscribe_to_all(&owner, &home.id).await;
    let metrics = app.app().services().metrics.clone();
    until("all streams run", || metrics.subscriptions.get() == 4).await;
    change(&app, &owner, &device, &mut streams, "BEFORE").await;

    let stop = Arc::new(AtomicBool::new(false));
    let requests = tokio::spawn(ask(owner.clone(), stop.clone()));
    let mut outages = Vec::new();
    for name in ["FIRST", "SECOND"] {
        // With the requests that are running.
        let down = Instant::now() - Duration::from_secs(1);
        postgres.stop_immediate().expect("PostgreSQL stops");
        postgres.restart().expect("PostgreSQL restarts");
        outages.push(down..Instant::now());
        change(&app, &owner, &device, &mut streams, name).await;
    }
    stop.store(true, Ordering::Relaxed);
    let answers = requests.await.expect("the requests");
    let failed: Vec<_> = answers.iter().filter(|(_, code)| code.is_some()).collect();
    println!("{} requests, {} failed during {outages:?}", answers.len(), failed.len());
    let unexpected: Vec<_> =
        failed.iter().filter(|(began, _)| outages.iter().all(|outage| !outage.contains(began))).collect();
    assert!(unexpected.is_empty(), "outside the outages: {unexpected:?}");
    assert_eq!((metrics.subscriptions.get(), metrics.subscriptions_lagged.get()), (4, 0), "no stream ended");
    app.stop().await;
    postgres.remove().expect("PostgreSQL stops");
}
