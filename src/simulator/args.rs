//! The command line of `smarthome simulate`, and what it means.

use std::path::PathBuf;
use std::time::Duration;

use super::config::{Credentials, DEFAULT_WINDOW, FleetConfig, Pace, Qos, Timekeeping, VirtualDevice};
use super::{Answers, Faults, SimulatorError};
use crate::settings::{BrokerUrl, Secret};

/// Time between two lines that tell how it goes.
pub(crate) const PROGRESS: Duration = Duration::from_secs(10);

/// Simulate a fleet of ESP32 devices over real MQTT.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The broker: mqtt://, mqtts://, ws:// or wss://.
    #[arg(long, default_value = "mqtt://127.0.0.1:1883")]
    broker: BrokerUrl,
    /// PEM file of the authority that signed the broker's certificate (default: the system's).
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// MQTT user of all devices; each by its own with --devices-file.
    #[arg(long)]
    username: Option<String>,
    /// Its password. Other users of this machine can see it: prefer --password-file.
    #[arg(long, requires = "username", value_parser = |text: &str| Ok::<_, String>(Secret::new(text)))]
    password: Option<Secret>,
    /// File that holds the password of --username.
    #[arg(long, value_name = "FILE", requires = "username", conflicts_with = "password")]
    password_file: Option<PathBuf>,
    /// JSON list of devices: [{"key", "username", "password", "clientId"}], all but the key optional.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["devices", "device", "username"])]
    devices_file: Option<PathBuf>,
    /// First segment of all topics.
    #[arg(long, default_value = "smarthome")]
    prefix: String,
    /// The home's key or id.
    #[arg(long, default_value = "1", value_name = "KEY")]
    home: String,
    /// Number of devices, named by --key-pattern.
    #[arg(long, value_name = "N", conflicts_with = "device")]
    devices: Option<usize>,
    /// A device's key; may be given several times.
    #[arg(long, value_name = "KEY")]
    device: Vec<String>,
    /// Keys of --devices: {} is the number from 1, {:03} the same with three digits.
    #[arg(long, default_value = "ESP32_{:03}", value_name = "PATTERN")]
    key_pattern: String,
    /// Telemetry messages a second, all devices together (default: one a device every 5 s). A server limits
    /// each device (DEVICE_RATE_LIMIT, 20 a second) unless it is told not to.
    #[arg(long, value_name = "R", conflicts_with = "flood")]
    rate: Option<f64>,
    /// As fast as the broker acknowledges: for a server with DEVICE_RATE_LIMIT=0.
    #[arg(long)]
    flood: bool,
    /// Stop after this many seconds.
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    duration: Option<Duration>,
    /// Stop after this many telemetry messages.
    #[arg(long, value_name = "N")]
    messages: Option<u64>,
    /// MQTT QoS of telemetry.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(0..=2))]
    qos: u8,
    /// Let the broker keep each device's last status.
    #[arg(long)]
    retain_status: bool,
    /// Seconds between heartbeats of a device.
    #[arg(long, default_value = "60", value_name = "SECONDS", value_parser = seconds)]
    heartbeat: Duration,
    /// Whose time they report; none: milliseconds since boot, as the seed's sketch.
    #[arg(long, value_enum, default_value = "device")]
    clock: Timekeeping,
    /// What goes wrong: loss, dup, clock, reconnect, each with an optional =VALUE.
    #[arg(long, default_value = "", value_name = "LIST", hide_default_value = true)]
    faults: Faults,
    /// How devices answer commands and configuration, each with an optional =VALUE.
    ///
    /// fail=0.1: share of commands answered FAILED and not carried out; reject=0.1: share of
    /// configurations answered REJECTED; delay=2: mean seconds before the final answer, each by itself
    /// and none longer than five means; silence=0.1: share carried out and never answered; dup=0.1:
    /// share of final answers sent twice; no-ack=0.5: share of commands answered without ACKED before;
    /// effect: no answers at all, the next status shows what was set, as firmware without `ack` does.
    #[arg(long, default_value = "", value_name = "LIST", hide_default_value = true)]
    answers: Answers,
    /// Let the broker keep what is for a device that is away, for so long (default: forget it at once,
    /// a clean session, as most boards have it).
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    session_expiry: Option<Duration>,
    /// Forget at once what is for a device that is away: the default, for scripts that say so.
    #[arg(long, conflicts_with = "session_expiry")]
    clean_session: bool,
    /// The same seed gives the same readings.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Number the messages by a reading `seq`.
    #[arg(long)]
    numbered: bool,
    /// MQTT connections that carry the devices (default: one a device).
    #[arg(long, value_name = "M")]
    connections: Option<usize>,
    /// Unacknowledged messages a connection may have.
    #[arg(long, default_value_t = DEFAULT_WINDOW, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    window: u16,
}

/// Time between readings of a device where no rate is given.
const DEFAULT_INTERVAL_S: f64 = 5.0;
const DEFAULT_DEVICES: usize = 6;

impl Args {
    /// What was typed, as what is meant.
    #[expect(clippy::cast_precision_loss, reason = "no fleet has 2^52 devices")]
    pub(crate) fn into_config(self) -> Result<FleetConfig, SimulatorError> {
        let devices = self.virtual_devices()?;
        let default_rate = devices.len() as f64 / DEFAULT_INTERVAL_S;
        let pace = if self.flood { Pace::Flood } else { Pace::PerSecond(self.rate.unwrap_or(default_rate)) };
        Ok(FleetConfig {
            ca_file: self.ca_file,
            prefix: self.prefix,
            connections: self.connections,
            window: self.window,
            pace,
            messages: self.messages,
            duration: self.duration,
            qos: match self.qos {
                0 => Qos::AtMostOnce,
                1 => Qos::AtLeastOnce,
                _ => Qos::ExactlyOnce,
            },
            retain_status: self.retain_status,
            heartbeat: self.heartbeat,
            timekeeping: self.clock,
            faults: self.faults,
            answers: self.answers,
            session_expiry: self.session_expiry.filter(|_| !self.clean_session),
            seed: self.seed,
            numbered: self.numbered,
            ..FleetConfig::new(self.broker, self.home, devices)
        })
    }

    fn virtual_devices(&self) -> Result<Vec<VirtualDevice>, SimulatorError> {
        if let Some(path) = &self.devices_file {
            let unusable = |problem: String| SimulatorError::File { path: path.clone(), problem };
            let text = std::fs::read_to_string(path).map_err(|error| unusable(error.to_string()))?;
            // serde_json's text tells line and column, never a value.
            return VirtualDevice::parse_list(&text).map_err(|error| unusable(error.to_string()));
        }
        let password = match &self.password_file {
            Some(path) => {
                let text = std::fs::read_to_string(path)
                    .map_err(|error| SimulatorError::File { path: path.clone(), problem: error.to_string() })?;
                Secret::new(text.trim_end_matches(['\r', '\n']))
            }
            None => self.password.clone().unwrap_or_else(|| Secret::new("")),
        };
        let credentials = self.username.clone().map(|username| Credentials { username, password });
        let keys = if self.device.is_empty() {
            (1..=self.devices.unwrap_or(DEFAULT_DEVICES)).map(|number| key(&self.key_pattern, number)).collect()
        } else {
            self.device.clone()
        };
        let device = |key| VirtualDevice { credentials: credentials.clone(), ..VirtualDevice::new(key) };
        Ok(keys.into_iter().map(device).collect())
    }
}

/// A second to a year; shorter heartbeats would be a flood.
fn seconds(text: &str) -> Result<Duration, String> {
    const YEAR_S: f64 = 366.0 * 86_400.0;
    let seconds = text.parse().ok().filter(|seconds| (1.0..=YEAR_S).contains(seconds));
    seconds.map(Duration::from_secs_f64).ok_or_else(|| "expected seconds, at least 1".to_owned())
}

/// The key of device `number` by a pattern with `{}` or `{:03}`; the number goes to the end of a
/// pattern without either, for keys must differ.
fn key(pattern: &str, number: usize) -> String {
    let Some((before, rest)) = pattern.split_once('{') else { return format!("{pattern}{number}") };
    let Some((format, after)) = rest.split_once('}') else { return format!("{pattern}{number}") };
    let width = format.strip_prefix(":0").and_then(|width| width.parse().ok()).unwrap_or(0);
    format!("{before}{number:0width$}{after}")
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    fn config(line: &str) -> Result<FleetConfig, SimulatorError> {
        let words = std::iter::once("simulate").chain(line.split_whitespace());
        Cli::try_parse_from(words).unwrap().args.into_config()
    }

    #[test]
    fn nothing_typed_is_a_small_fleet_of_the_demo_home() {
        let config = config("").unwrap();
        let keys: Vec<_> = config.devices.iter().map(|device| device.key.as_str()).collect();
        assert_eq!(keys, ["ESP32_001", "ESP32_002", "ESP32_003", "ESP32_004", "ESP32_005", "ESP32_006"]);
        assert_eq!((config.home.as_str(), config.pace, config.qos), ("1", Pace::PerSecond(1.2), Qos::AtLeastOnce));
    }

    #[test]
    fn keys_come_from_a_pattern_or_one_by_one() {
        assert_eq!(key("node-{}", 7), "node-7");
        assert_eq!(key("node-{:05}-x", 7), "node-00007-x");
        assert_eq!(key("node", 7), "node7");
        assert_eq!(config("--device A --device B").unwrap().devices.len(), 2);
    }

    #[test]
    fn a_file_gives_each_device_its_credentials_and_no_secret_shows() {
        let file = std::env::temp_dir().join(format!("smarthome-devices-{}", std::process::id()));
        std::fs::write(&file, r#"{"devices":[{"key":"A","username":"h/A","password":"hush-hush"},{"key":"B"}]}"#)
            .unwrap();
        let config = config(&format!("--devices-file {}", file.display())).unwrap();
        std::fs::remove_file(file).unwrap();
        assert_eq!(config.devices[0].credentials.as_ref().unwrap().username, "h/A");
        assert_eq!(config.devices[1].credentials, None);
        assert!(!format!("{config:?}").contains("hush"));
    }

    #[test]
    fn a_password_never_shows() {
        let config = config("--username u --password hush-hush").unwrap();
        assert!(!format!("{config:?}").contains("hush"));
        assert_eq!(config.devices[5].credentials.as_ref().unwrap().password.reveal(), "hush-hush");
    }

    #[test]
    fn sessions_are_clean_unless_they_are_to_be_kept() {
        assert_eq!(config("--clean-session").unwrap().session_expiry, config("").unwrap().session_expiry);
        assert_eq!(config("--session-expiry 60").unwrap().session_expiry, Some(Duration::from_secs(60)));
        assert!(Cli::try_parse_from(["simulate", "--clean-session", "--session-expiry", "60"]).is_err());
    }

    #[test]
    fn answers_are_as_they_were_asked_for() {
        let config = config("--answers fail=0.25,effect").unwrap();
        assert_eq!(config.answers, Answers { fail: 0.25, effect: true, ..Answers::default() });
        assert!(Cli::try_parse_from(["simulate", "--answers", "fail=2"]).is_err());
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = config("--devices-file /nowhere/devices.json").unwrap_err();
        assert!(error.to_string().starts_with("/nowhere/devices.json: "), "{error}");
    }
}
