//! Commands and configurations over a real broker, from the mutation to the device and back.

mod commands;
mod configs;
mod lost_session;
mod no_subscribers;
mod outages;
mod returned;
mod scale;

use serde_json::{Value, json};

use super::support::app::{Builder, TestApp};
use super::support::mqtt::Mqtt;
use super::support::user::{Device, Home, User};
use super::support::ws::Subscription;
use super::support::{eventually, until};

const SEND: &str = "mutation($input: SendCommandInput!) { sendCommand(input: $input) { id status expiresAt } }";
const COMMAND: &str = "query($id: ID!) { command(id: $id) { id status error result confirmedBy supersededBy { id } \
                       sentAt ackedAt finishedAt expiresAt } }";
const UPDATES: &str =
    "subscription($id: ID!) { commandUpdates(commandId: $id) { id status result error confirmedBy } }";
const PUSH: &str = "mutation($input: PushConfigInput!) { pushConfig(input: $input) { version status config } }";
const CONFIG: &str = "query($id: ID!) { device(id: $id) { config { version status config errors sentAt appliedAt } \
                      configHistory { nodes { version status } } } }";

/// A server, a home, a device, and the MQTT client of the device.
struct Rig {
    app: TestApp,
    home: Home,
    owner: User,
    device: Device,
    mqtt: Mqtt,
}

impl Rig {
    async fn start() -> Self {
        Self::with(TestApp::builder()).await
    }

    async fn with(builder: Builder) -> Self {
        let app = builder.start().await;
        let (home, owner) = app.home().await;
        let device = app.device(&owner, &home, "ESP32_001").await;
        let mqtt = app.another_mqtt().await;
        mqtt.subscribe(&device.topic("commands")).await.expect("SUBACK");
        mqtt.subscribe(&device.topic("config")).await.expect("SUBACK");
        Self { app, home, owner, device, mqtt }
    }

    /// Sends a command with these fields and returns its id.
    async fn send(&self, fields: Value) -> String {
        let mut input = fields;
        input["deviceId"] = json!(self.device.id);
        let data = self.owner.query(SEND, json!({ "input": input })).await;
        data["sendCommand"]["id"].as_str().expect("an id").to_owned()
    }

    /// Pushes a configuration and returns its version.
    async fn push(&self, config: Value) -> i64 {
        let input = json!({"deviceId": self.device.id, "config": config});
        let data = self.owner.query(PUSH, json!({ "input": input })).await;
        data["pushConfig"]["version"].as_i64().expect("a version")
    }

    async fn command(&self, id: &str) -> Value {
        self.owner.query(COMMAND, json!({ "id": id })).await["command"].take()
    }

    async fn config(&self) -> Value {
        self.owner.query(CONFIG, json!({"id": self.device.id})).await["device"].take()
    }

    /// Waits until the command has this status, and returns it.
    async fn until(&self, id: &str, status: &str) -> Value {
        eventually(&format!("{id} is {status}"), || async {
            let command = self.command(id).await;
            (command["status"] == status).then_some(command)
        })
        .await
    }

    /// Waits until the newest configuration has this version and status, and returns it.
    async fn until_config(&self, version: i64, status: &str) -> Value {
        eventually(&format!("version {version} is {status}"), || async {
            let config = self.config().await["config"].take();
            (config["version"] == version && config["status"] == status).then_some(config)
        })
        .await
    }

    async fn updates(&self, id: &str) -> Subscription {
        self.owner.subscribe(UPDATES, json!({ "id": id })).await
    }

    /// The next message to the device: kind and JSON.
    async fn received(&mut self) -> (String, Value) {
        let (topic, payload) = self.mqtt.next().await;
        let kind = topic.rsplit_once('/').expect("four segments").1.to_owned();
        (kind, serde_json::from_slice(&payload).expect("JSON"))
    }

    /// Publishes a message of the device.
    async fn publish(&self, kind: &str, message: Value) {
        self.app.publish(&self.device, kind, message.to_string()).await;
    }

    /// Publishes an answer of the device to a command.
    async fn answer(&self, id: &str, status: &str, more: Value) {
        let mut ack = json!({"commandId": id, "status": status});
        ack.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        self.publish("ack", ack).await;
    }

    /// Waits until so many messages are counted, as stored, duplicate or rejected.
    async fn until_processed(&self, n_received: u64) {
        let m = self.app.app().services().metrics.clone();
        let n_processed = || m.mqtt_stored.get() + m.mqtt_duplicate.get() + m.mqtt_rejected_total.get();
        until("everything is processed", || n_processed() >= n_received).await;
    }
}
