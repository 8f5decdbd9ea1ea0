//! A server and its own Mosquitto with accounts, as in production.

use std::path::{Path, PathBuf};
use std::process::Output;

use super::app::{Builder, Database, TestApp};
use super::binary::binary;
use super::broker::{Broker, folder};
use super::eventually;
use super::mqtt::Mqtt;
use super::user::{Device, User};

/// The server's account at the broker.
pub const SERVER: (&str, &str) = ("smarthome_backend", "the-password-of-the-server-itself");
/// The plugin's administrator.
pub const ADMIN: (&str, &str) = ("smarthome_admin", "the-password-of-the-administrator");
/// First segment of every topic; the broker serves one test only.
pub const PREFIX: &str = "smarthome";

/// The broker's settings for `serve` and `mqtt export`.
pub fn variables(port: u16) -> Vec<(&'static str, String)> {
    let text = |text: &str| text.to_owned();
    vec![
        ("MQTT_BROKER_URL", format!("mqtt://127.0.0.1:{port}")),
        ("MQTT_TOPIC_PREFIX", text(PREFIX)),
        ("MQTT_USERNAME", text(SERVER.0)),
        ("MQTT_PASSWORD", text(SERVER.1)),
        ("MQTT_PROVISIONING", text("dynsec")),
        ("MQTT_DYNSEC_USERNAME", text(ADMIN.0)),
        ("MQTT_DYNSEC_PASSWORD", text(ADMIN.1)),
    ]
}

/// Runs the binary with an environment of its own.
pub fn smarthome(arguments: &[&str], database_url: &str) -> Output {
    let output =
        binary(arguments).env("DATABASE_URL", database_url).envs(variables(1)).output().expect("the binary runs");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

/// `smarthome mqtt export` into this folder.
pub fn export(folder: &Path, database_url: &str) -> Output {
    smarthome(&["mqtt", "export", "--dir", folder.to_str().expect("UTF-8")], database_url)
}

/// A folder with the files of an installation without devices.
pub async fn empty_export() -> PathBuf {
    let (folder, database) = (folder(), Database::create().await);
    smarthome(&["migrate"], &database.url());
    export(&folder, &database.url());
    folder
}

/// A server that uses this broker.
pub fn server(broker: &Broker) -> Builder {
    let builder = TestApp::builder().broker(broker.port());
    variables(broker.port()).into_iter().fold(builder, |builder, (name, value)| builder.set(name, value))
}

/// A broker with Dynamic Security and a server.
pub async fn start() -> (Broker, TestApp) {
    let broker = Broker::with_dynamic_security(empty_export().await).await;
    let app = server(&broker).start().await;
    (broker, app)
}

/// A device whose account the broker has, and its connection.
pub async fn connected(app: &TestApp, owner: &User, home: &super::user::Home, key: &str) -> (Device, Mqtt) {
    let device = app.device(owner, home, key).await;
    let client = enter(app.mqtt_port(), &device.client_id, &device.username, &device.password).await;
    (device, client)
}

/// One attempt to connect as a device.
pub async fn try_enter(port: u16, client_id: &str, username: &str, password: &str) -> Option<Mqtt> {
    Mqtt::connect_with(port, client_id, Some((username, password))).await.ok()
}

/// Connects as a device as soon as the broker accepts it.
pub async fn enter(port: u16, client_id: &str, username: &str, password: &str) -> Mqtt {
    eventually("the broker knows the device", || try_enter(port, client_id, username, password)).await
}
