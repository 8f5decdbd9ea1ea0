//! What a fleet is told: the library's side of `smarthome simulate`.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::answers::Answers;
use super::faults::Faults;
use crate::clock::Clock;
use crate::settings::{BrokerUrl, Secret};

/// Messages a connection may have unacknowledged. A small limit is what the client needs to be fast
/// (it walks all slots at every flush).
pub(crate) const DEFAULT_WINDOW: u16 = 100;

/// One device of the fleet, and as whom it connects.
#[derive(Debug, Clone)]
pub struct VirtualDevice {
    /// Its name in topics and payloads, e.g. `ESP32_001`.
    pub key: String,
    /// MQTT user and password; `None` where the broker asks for none.
    pub credentials: Option<Credentials>,
    /// MQTT client id; `{key}@{home}` by default, as the registry hands it out.
    pub client_id: Option<String>,
}

/// As whom a device connects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    /// MQTT user name, `{home key}/{device key}`.
    pub username: String,
    /// Its password.
    pub password: Secret,
}

impl VirtualDevice {
    /// A device without credentials.
    pub fn new(key: impl Into<String>) -> Self {
        Self { key: key.into(), credentials: None, client_id: None }
    }

    /// Reads a JSON file of devices: `[{"key", "username"?, "password"?, "clientId"?}]`, or the same
    /// list under `devices`.
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

/// How fast a fleet speaks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Pace {
    /// Telemetry messages a second, all devices together.
    PerSecond(f64),
    /// As fast as the broker acknowledges.
    Flood,
}

/// Whose time the devices report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Timekeeping {
    /// Their own clock, RFC 3339.
    Device,
    /// They have none and send milliseconds since boot as text, as the seed's sketch does.
    None,
}

/// MQTT's delivery promise for telemetry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Qos {
    /// 0
    AtMostOnce,
    /// 1
    AtLeastOnce,
    /// 2
    ExactlyOnce,
}

/// Everything a fleet is told.
#[derive(Debug, Clone)]
pub struct FleetConfig {
    /// Where to connect.
    pub broker: BrokerUrl,
    /// PEM of the authority that signed the broker's certificate; the system's ones by default.
    pub ca_file: Option<PathBuf>,
    /// First topic segment.
    pub prefix: String,
    /// The home's key or id: second topic segment.
    pub home: String,
    /// The devices.
    pub devices: Vec<VirtualDevice>,
    /// MQTT connections that carry them; `None`: one a device, as in life.
    pub connections: Option<usize>,
    /// Unacknowledged messages a connection may have.
    pub window: u16,
    /// How fast they speak.
    pub pace: Pace,
    /// Telemetry messages in all; then the fleet says goodbye.
    pub messages: Option<u64>,
    /// After this the fleet says goodbye.
    pub duration: Option<Duration>,
    /// Of telemetry; status goes out at 1, heartbeats at 0.
    pub qos: Qos,
    /// Whether the broker keeps the last status of each device.
    pub retain_status: bool,
    /// Time between heartbeats of a device.
    pub heartbeat: Duration,
    /// Whose time they report.
    pub timekeeping: Timekeeping,
    /// What goes wrong.
    pub faults: Faults,
    /// How they answer commands and configuration.
    pub answers: Answers,
    /// How long the broker keeps what is for a device that is away; `None`, as on most boards: it
    /// forgets the device with its link (a clean session).
    pub session_expiry: Option<Duration>,
    /// The same seed gives the same readings.
    pub seed: u64,
    /// Numbers the messages by a reading `seq` and keeps a [`super::Ledger`] of them.
    pub numbered: bool,
    /// The time the devices report.
    pub clock: Clock,
}

impl FleetConfig {
    /// A quiet fleet: one message a second and device, no faults, QoS 1, device clocks.
    #[expect(clippy::cast_precision_loss, reason = "no fleet has 2^52 devices")]
    pub fn new(broker: BrokerUrl, home: impl Into<String>, devices: Vec<VirtualDevice>) -> Self {
        Self {
            broker,
            ca_file: None,
            prefix: "smarthome".to_owned(),
            home: home.into(),
            pace: Pace::PerSecond(devices.len() as f64),
            devices,
            connections: None,
            window: DEFAULT_WINDOW,
            messages: None,
            duration: None,
            qos: Qos::AtLeastOnce,
            retain_status: false,
            heartbeat: Duration::from_secs(60),
            timekeeping: Timekeeping::Device,
            faults: Faults::default(),
            answers: Answers::default(),
            session_expiry: None,
            seed: 1,
            numbered: false,
            clock: Clock::system(),
        }
    }
}
