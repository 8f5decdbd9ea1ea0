//! The settings of a fleet.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::answers::Answers;
use super::faults::Faults;
use crate::clock::Clock;
use crate::settings::{BrokerUrl, Secret};

/// One device of the fleet and its login.
#[derive(Debug, Clone)]
pub struct VirtualDevice {
    /// Its name in topics and payloads, e.g. `ESP32_001`.
    pub key: String,
    /// `None` for a broker that asks for none.
    pub credentials: Option<Credentials>,
    /// MQTT client id; `{key}@{home}` by default.
    pub client_id: Option<String>,
}

/// MQTT user and password of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    pub username: String,
    pub password: Secret,
}

impl VirtualDevice {
    /// A device without credentials.
    pub fn new(key: impl Into<String>) -> Self {
        Self { key: key.into(), credentials: None, client_id: None }
    }

    /// Reads a JSON file of devices: `[{"key", "username"?, "password"?, "clientId"?}]`, or the same list under
    /// `devices`.
    pub(crate) fn parse_list(text: &str) -> Result<Vec<Self>, serde_json::Error> {
        let list: List = serde_json::from_str(text)?;
        let entries = match list {
            List::Bare(entries) | List::Named { devices: entries } => entries,
        };
        Ok(entries.into_iter().map(Entry::into_device).collect())
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum List {
    Bare(Vec<Entry>),
    Named { devices: Vec<Entry> },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    key: String,
    username: Option<String>,
    password: Option<String>,
    client_id: Option<String>,
}

impl Entry {
    fn into_device(self) -> VirtualDevice {
        let credentials = self
            .username
            .map(|username| Credentials { username, password: Secret::new(self.password.unwrap_or_default()) });
        VirtualDevice { key: self.key, credentials, client_id: self.client_id }
    }
}

/// The settings of a fleet.
#[derive(Debug, Clone)]
pub struct FleetConfig {
    pub broker: BrokerUrl,
    /// PEM of the authority that signed the broker's certificate; the system's authorities by default.
    pub ca_file: Option<PathBuf>,
    /// First topic segment.
    pub prefix: String,
    /// The home's key or id: second topic segment.
    pub home: String,
    pub devices: Vec<VirtualDevice>,
    /// Telemetry messages per second of all devices together.
    pub rate: f64,
    /// The fleet disconnects after this time.
    pub duration: Option<Duration>,
    /// Time between heartbeats of a device.
    pub heartbeat: Duration,
    pub faults: Faults,
    pub answers: Answers,
    /// How long the broker keeps the session of a disconnected device; `None` for a clean session, which most
    /// boards use.
    pub session_expiry: Option<Duration>,
    /// The same seed gives the same readings.
    pub seed: u64,
    /// The time the devices report.
    pub clock: Clock,
}

impl FleetConfig {
    /// One message a second and device, without faults.
    #[expect(clippy::cast_precision_loss, reason = "no fleet has 2^52 devices")]
    pub fn new(broker: BrokerUrl, home: impl Into<String>, devices: Vec<VirtualDevice>) -> Self {
        Self {
            broker,
            ca_file: None,
            prefix: "smarthome".to_owned(),
            home: home.into(),
            rate: devices.len() as f64,
            devices,
            duration: None,
            heartbeat: Duration::from_secs(60),
            faults: Faults::default(),
            answers: Answers::default(),
            session_expiry: None,
            seed: 1,
            clock: Clock::system(),
        }
    }
}
