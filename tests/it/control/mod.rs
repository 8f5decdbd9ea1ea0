//! What a phone does to a house: commands and configuration, from the mutation to the device and back,
//! over a real broker.

mod commands;
mod configs;
mod no_subscribers;
mod outages;
mod scale;

use serde_json::{Value, json};

use super::support::app::{Builder, TestApp};
use super::support::eventually;
use super::support::mqtt::Mqtt;
use super::support::user::{Device, Home, User};
use super::support::ws::Subscription;

const SEND: &str = "mutation($input: SendCommandInput!) { sendCommand(input: $input) { id status expiresAt } }";
const COMMAND: &str = "query($id: ID!) { command(id: $id) { id status error result confirmedBy supersededBy { id } \
                       sentAt ackedAt finishedAt expiresAt } }";
const UPDATES: &str =
    "subscription($id: ID!) { commandUpdates(commandId: $id) { id status result error confirmedBy } }";
const PUSH: &str = "mutation($input: PushConfigInput!) { pushConfig(input: $input) { version status config } }";
const CONFIG: &str = "query($id: ID!) { device(id: $id) { config { version status config errors sentAt appliedAt } \
                      configHistory { nodes { version status } } } }";

/// A server, a home, a device, and the device's own end of the wire.
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

    /// Sends a command with these fields beside the device's id, and gives back its id.
    async fn send(&self, fields: Value) -> String {
        let mut input = fields;
        input["deviceId"] = json!(self.device.id);
        let data = self.owner.query(SEND, json!({ "input": input })).await;
        data["sendCommand"]["id"].as_str().expect("an id").to_owned()
    }

    /// Pushes a configuration and gives back its version.
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

    /// Waits until the command stands so, and gives it back.
    async fn until(&self, id: &str, status: &str) -> Value {
        eventually(&format!("{id} is {status}"), || async {
            let command = self.command(id).await;
            (command["status"] == status).then_some(command)
        })
        .await
    }

    /// Waits until the newest configuration stands so, and gives it back.
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

    /// The next message to the device: its kind and content.
    async fn received(&mut self) -> (String, Value) {
        let (topic, payload) = self.mqtt.next().await;
        let kind = topic.rsplit_once('/').expect("four segments").1.to_owned();
        (kind, serde_json::from_slice(&payload).expect("JSON"))
    }

    /// The device says something.
    async fn say(&self, kind: &str, message: Value) {
        self.app.publish(&self.device, kind, message.to_string()).await;
    }

    async fn answer(&self, id: &str, status: &str, more: Value) {
        let mut ack = json!({"commandId": id, "status": status});
        ack.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        self.say("ack", ack).await;
    }

    /// Waits until everything that was published so far is counted, whatever it came to.
    async fn settled(&self, n_received: u64) {
        let m = self.app.app().services().metrics.clone();
        eventually("everything is counted", || {
            let done = m.mqtt_stored.get() + m.mqtt_duplicate.get() + m.mqtt_rejected_total.get();
            std::future::ready((done >= n_received).then_some(()))
        })
        .await;
    }
}
