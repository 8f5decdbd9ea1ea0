//! Names that are used again: what belonged to a deleted home or device reaches nobody who comes after it.

mod password_file;
mod provisioned;
mod retained;

use serde_json::{Value, json};

use crate::support::app::TestApp;
use crate::support::eventually;
use crate::support::kept_session::KeptSession;
use crate::support::mqtt::Mqtt;
use crate::support::user::{Device, Home, User};

/// Something that the first owner or device sent, which nobody else may receive.
const FIRST: &str = "of-the-first";
/// Something that is sent after the second device has connected.
const SECOND: &str = "of-the-second";
/// What devices publish.
const UP: [&str; 4] = ["telemetry", "status", "heartbeat", "ack"];

/// An owner, their home, and a server.
struct Rig {
    app: TestApp,
    owner: User,
    home: Home,
}

impl Rig {
    async fn new(app: TestApp) -> Self {
        let (home, owner) = app.home().await;
        Self { app, owner, home }
    }

    /// Registers the device whose key is used again.
    async fn lamp(&self) -> Device {
        self.app.device(&self.owner, &self.home, "lamp").await
    }

    async fn push(&self, device: &Device, ssid: &str) {
        let push = "mutation($i: PushConfigInput!) { pushConfig(input: $i) { version } }";
        self.owner.query(push, json!({"i": {"deviceId": device.id, "config": {"ssid": ssid}}})).await;
    }

    async fn send(&self, device: &Device, code: &str) {
        let send = "mutation($i: SendCommandInput!) { sendCommand(input: $i) { id } }";
        let input = json!({"deviceId": device.id, "type": "SET_CODE", "payload": {"code": code}});
        self.owner.query(send, json!({ "i": input })).await;
    }

    /// The device has a session at the broker and is away; a configuration and a command wait for it there.
    async fn leave_messages(&self, version: &str, device: &Device) {
        drop(KeptSession::of(self.app.mqtt_port(), version, device).await);
        self.push_and_send(device).await;
    }

    /// The same while the device is connected and acknowledges nothing.
    async fn leave_in_flight(&self, version: &str, device: &Device) -> KeptSession {
        let session = KeptSession::of(self.app.mqtt_port(), version, device).await;
        session.freeze().await;
        self.push_and_send(device).await;
        session
    }

    async fn push_and_send(&self, device: &Device) {
        self.push(device, FIRST).await;
        self.send(device, FIRST).await;
        let query = "query($d: ID!) { device(id: $d) { config { status } commands { nodes { status } } } }";
        eventually("the broker has both", || async {
            let device = self.owner.query(query, json!({"d": device.id})).await["device"].take();
            let is_sent = device["config"]["status"] == "SENT" && device["commands"]["nodes"][0]["status"] == "SENT";
            is_sent.then_some(())
        })
        .await;
    }

    async fn delete(&self, device: &Device) {
        self.owner.query("mutation($d: ID!) { deleteDevice(id: $d) }", json!({"d": device.id})).await;
    }

    /// Everything that the device receives when it connects under this client id, up to a command sent afterwards.
    async fn received(&self, version: &str, device: &Device, client_id: &str) -> String {
        let port = self.app.mqtt_port();
        let connect = || KeptSession::try_of(port, version, device, client_id);
        let mut session = eventually("the broker knows the device", connect).await;
        self.send(device, SECOND).await;
        session.until(SECOND).await
    }

    /// What the API shows of the device itself.
    async fn shown(&self, device: &Device) -> Value {
        let query = "query($d: ID!, $h: ID!) { device(id: $d) { firmwareVersion metadata latestTelemetry { id } } \
                     rejectedMessages(homeId: $h) { nodes { reason payloadPreview } } }";
        self.owner.query(query, json!({"d": device.id, "h": self.home.id})).await
    }
}

/// Publishes a retained message of each kind.
async fn publish_retained(client: &Mqtt, device: &Device) {
    let status = json!({"online": true, "status": {"firmwareVersion": FIRST}});
    for kind in UP {
        let payload = if kind == "status" { status.clone() } else { json!({"sensors": {}, "note": FIRST}) };
        client.publish_retained(&device.topic(kind), payload.to_string()).await.expect("PUBACK");
    }
}

/// What a new subscriber of the devices' topics receives up to a message that `device` sends now.
async fn retained_at(mut observer: Mqtt, prefix: &str, client: &Mqtt, device: &Device) -> String {
    for kind in UP {
        observer.subscribe(&format!("{prefix}/+/+/{kind}")).await.expect("SUBACK");
    }
    client.publish(&device.topic("heartbeat"), format!("{{\"note\": \"{SECOND}\"}}")).await.expect("PUBACK");
    let mut received = String::new();
    while !received.contains(SECOND) {
        let (topic, payload) = observer.next().await;
        received += &format!("{topic} {}\n", String::from_utf8_lossy(&payload));
    }
    received
}
