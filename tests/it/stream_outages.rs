//! No stream ends because the database is unavailable for a while.

use serde_json::{Value, json};
use smarthome::hub::{CAPACITY, Hub, HubEvent, HubReceiver};
use smarthome::ids::{DeviceId, HomeId};

use super::support::app::{Database, TestApp};
use super::support::proxy::Mode;
use super::support::user::{Device, User};
use super::support::ws::Subscription;
use super::support::{soon, until};

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
    let mut streams = Vec::new();
    for query in [TELEMETRY, STATES, COMMANDS, CONFIGS] {
        streams.push(owner.subscribe(query, json!({"id": home.id})).await);
    }
    let mut streams: [Subscription; 4] = streams.try_into().ok().expect("four");
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
