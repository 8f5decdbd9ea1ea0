//! A device whose session the broker keeps: `mosquitto_sub`, with MQTT 3.1.1 or 5.

use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use super::user::Device;
use super::{eventually, soon};

/// The versions of the protocol that devices speak.
pub const VERSIONS: [&str; 2] = ["mqttv311", "mqttv5"];

/// A connection that ends without DISCONNECT when it is dropped, so the broker keeps its session.
pub struct KeptSession {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    /// What the device received before its SUBACK and since the last call of [`KeptSession::until`].
    received: Vec<String>,
}

impl KeptSession {
    /// Resumes the device's session, or starts one, and subscribes to both of its topics. Tries until the broker
    /// accepts the device.
    pub async fn of(port: u16, version: &str, device: &Device) -> Self {
        eventually("the broker knows the device", || Self::try_of(port, version, device, &device.client_id)).await
    }

    /// One attempt, under any client id.
    pub async fn try_of(port: u16, version: &str, device: &Device, client_id: &str) -> Option<Self> {
        // Line by line, also into a pipe.
        let mut command = Command::new("stdbuf");
        command.args(["-oL", "mosquitto_sub", "-d", "-h", "127.0.0.1", "-p", &port.to_string(), "-V", version]);
        command.args(["-c", "-q", "1", "-i", client_id, "-u", &device.username, "-P", &device.password]);
        if version == "mqttv5" {
            command.args(["-x", "3600"]);
        }
        command.args(["-t", &device.topic("commands"), "-t", &device.topic("config"), "-F", "%t %p"]);
        let command = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
        let mut child = command.spawn().expect("mosquitto_sub runs");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let mut session = Self { child, lines, received: Vec::new() };
        loop {
            let line = soon("a line of mosquitto_sub", session.lines.next_line()).await.expect("UTF-8")?;
            if line.contains("received SUBACK") {
                return Some(session);
            }
            session.received.push(line);
        }
    }

    /// From now on it reads and acknowledges nothing: what the broker sends stays in flight.
    pub async fn freeze(&self) {
        let pid = self.child.id().expect("it runs").to_string();
        let status = Command::new("kill").args(["-STOP", &pid]).status().await;
        assert!(status.expect("kill runs").success());
    }

    /// Everything that it has received up to a message that contains this text.
    pub async fn until(&mut self, text: &str) -> String {
        while !self.received.last().is_some_and(|line| line.contains(text)) {
            let line = soon(text, self.lines.next_line()).await.expect("UTF-8").expect("the connection stays open");
            self.received.push(line);
        }
        std::mem::take(&mut self.received).join("\n")
    }
}
