//! Every `mosquitto_pub` line in the documents is accepted by the server as it is written, apart from the address and the first part of the topic.

use std::process::Command;

use serde_json::json;

use super::support::app::TestApp;
use super::support::documents::documents;
use super::support::{eventually, until};

/// The device of the documents.
const TOPIC: &str = "smarthome/1/ESP32_001/";

/// The commands with their continuation lines.
fn documented() -> Vec<(String, String)> {
    let mut found = Vec::new();
    for (path, text) in documents() {
        let text = text.replace("\\\n", " ");
        let commands = text.lines().map(str::trim).filter(|line| line.starts_with("mosquitto_pub "));
        found.extend(commands.map(|command| (path.display().to_string(), command.to_owned())));
    }
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_documented_message_is_accepted() {
    let commands = documented();
    assert!(commands.len() >= 7, "only {} commands were found", commands.len());
    let app = TestApp::start().await;
    app.mqtt().await; // The server is subscribed.
    let (home, owner) = app.home().await;
    let device = app.device(&owner, &home, "ESP32_001").await;
    let change = "mutation($d: ID!) { pushConfig(input: {deviceId: $d, config: {sampleRate: 30}}) { version } \
                  sendCommand(input: {deviceId: $d, type: \"BLINK\"}) { id } }";
    let changed = owner.query(change, json!({"d": device.id})).await;
    let command_id = changed["sendCommand"]["id"].as_str().expect("an id");
    let metrics = app.app().services().metrics.clone();
    for (n, (file, command)) in commands.iter().enumerate() {
        assert!(command.contains("-h 127.0.0.1 ") && command.contains(TOPIC), "{file}: {command}");
        let command = command
            .replace("-h 127.0.0.1 ", &format!("-h 127.0.0.1 -p {} ", app.mqtt_port()))
            .replace(TOPIC, &device.topic(""));
        let status = Command::new("sh").args(["-c", &command]).env("COMMAND_ID", command_id).status();
        assert!(status.expect("a shell").success(), "{file}: {command}");
        until(&format!("{file}: {command}"), || metrics.mqtt_received.get() > n as u64).await;
    }
    let n = commands.len() as u64;
    until("every message is stored", || metrics.mqtt_stored.get() + metrics.mqtt_rejected_total.get() >= n).await;
    assert_eq!((metrics.mqtt_stored.get(), metrics.mqtt_rejected_total.get()), (n, 0));
    eventually("the answers count", async || {
        let query = "query($d: ID!) { device(id: $d) { config { status } commands { nodes { status } } } }";
        let data = owner.query(query, json!({"d": device.id})).await;
        let device = &data["device"];
        let is_done = device["commands"]["nodes"][0]["status"] == "SUCCEEDED";
        (is_done && device["config"]["status"] == "APPLIED").then_some(())
    })
    .await;
    app.stop().await;
}
