//! The command line of `smarthome simulate`.

use std::path::PathBuf;
use std::time::Duration;

use super::config::{Credentials, FleetConfig, VirtualDevice};
use super::{Answers, Faults, SimulatorError};
use crate::settings::{BrokerUrl, Secret};

/// Simulate a fleet of ESP32 devices over real MQTT.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The broker: mqtt://, mqtts://, ws:// or wss://.
    #[arg(long, default_value = "mqtt://127.0.0.1:1883")]
    broker: BrokerUrl,
    /// PEM file of the authority that signed the broker's certificate (default: the system's).
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// MQTT user of all devices; use --devices-file for a user per device.
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
    /// Number of devices, named ESP32_001, ESP32_002 and so on.
    #[arg(long, value_name = "N", conflicts_with = "device")]
    devices: Option<usize>,
    /// A device's key; may be given several times.
    #[arg(long, value_name = "KEY")]
    device: Vec<String>,
    /// Telemetry messages per second of all devices together (default: one per device every 5 s). A server limits
    /// each device to DEVICE_RATE_LIMIT, 20 per second by default.
    #[arg(long, value_name = "R")]
    rate: Option<f64>,
    /// Stop after this many seconds.
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    duration: Option<Duration>,
    /// Seconds between heartbeats of a device.
    #[arg(long, default_value = "60", value_name = "SECONDS", value_parser = seconds)]
    heartbeat: Duration,
    /// Faults to inject: loss, dup, clock, reconnect, each with an optional =VALUE.
    ///
    /// loss=0.01: share of readings that are never sent; dup=0.02: share of messages sent twice; clock=0.2: share
    /// of devices whose clock is wrong; reconnect=60: mean seconds until a connection breaks.
    #[arg(long, default_value = "", value_name = "LIST", hide_default_value = true)]
    faults: Faults,
    /// How devices answer commands and configurations, each with an optional =VALUE.
    ///
    /// fail=0.1: share of commands that fail; reject=0.1: share of configurations that are rejected; delay=2: mean
    /// seconds before the final answer; silence=0.1: share executed without an answer; dup=0.1: share of final
    /// answers sent twice; no-ack=0.5: share of commands answered without ACKED first; effect: firmware without
    /// answers, which shows the values that were set in its status.
    #[arg(long, default_value = "", value_name = "LIST", hide_default_value = true)]
    answers: Answers,
    /// Seconds for which the broker keeps the session of a disconnected device (default: a clean session).
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    session_expiry: Option<Duration>,
    /// The same seed gives the same readings.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Time between readings of a device where no rate is given.
const DEFAULT_INTERVAL_S: f64 = 5.0;
const DEFAULT_DEVICES: usize = 6;

impl Args {
    #[expect(clippy::cast_precision_loss, reason = "no fleet has 2^52 devices")]
    pub(crate) fn into_config(self) -> Result<FleetConfig, SimulatorError> {
        let devices = self.virtual_devices()?;
        Ok(FleetConfig {
            ca_file: self.ca_file,
            prefix: self.prefix,
            rate: self.rate.unwrap_or(devices.len() as f64 / DEFAULT_INTERVAL_S),
            duration: self.duration,
            heartbeat: self.heartbeat,
            faults: self.faults,
            answers: self.answers,
            session_expiry: self.session_expiry,
            seed: self.seed,
            ..FleetConfig::new(self.broker, self.home, devices)
        })
    }

    fn virtual_devices(&self) -> Result<Vec<VirtualDevice>, SimulatorError> {
        if let Some(path) = &self.devices_file {
            let unusable = |problem: String| SimulatorError::File { path: path.clone(), problem };
            let text = std::fs::read_to_string(path).map_err(|error| unusable(error.to_string()))?;
            // serde_json's text contains line and column, never a value.
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
            (1..=self.devices.unwrap_or(DEFAULT_DEVICES)).map(|number| format!("ESP32_{number:03}")).collect()
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
    fn the_default_is_a_small_fleet_of_the_demo_home() {
        let config = config("").unwrap();
        let keys: Vec<_> = config.devices.iter().map(|device| device.key.as_str()).collect();
        assert_eq!(keys, ["ESP32_001", "ESP32_002", "ESP32_003", "ESP32_004", "ESP32_005", "ESP32_006"]);
        assert_eq!((config.home.as_str(), config.rate), ("1", 1.2));
    }

    #[test]
    fn keys_can_be_given_one_by_one() {
        assert_eq!(config("--device A --device B").unwrap().devices.len(), 2);
    }

    #[test]
    fn a_file_gives_each_device_its_credentials_and_no_secret_is_printed() {
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
    fn a_password_is_never_printed() {
        let config = config("--username u --password hush-hush").unwrap();
        assert!(!format!("{config:?}").contains("hush"));
        assert_eq!(config.devices[5].credentials.as_ref().unwrap().password.reveal(), "hush-hush");
    }

    #[test]
    fn answers_are_read_from_the_command_line() {
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
