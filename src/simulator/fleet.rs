//! A running fleet: one connection per device, counters, and the stop.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::command_events::{CommandListener, ReceivedIds};
use super::config::FleetConfig;
use super::delayed::DelayedAnswers;
use super::device::Device;
use super::device_connection::DeviceConnection;
use super::outbox::Outbox;
use super::report::{Counters, Report};
use super::schedule::Schedule;
use super::shared::Shared;
use super::{SimulatorError, client};

/// 500 connects a second.
const BETWEEN_CONNECTS: Duration = Duration::from_millis(2);

/// A running fleet. It stops with the token it was started with, after its duration, or when it is dropped.
pub struct Fleet {
    shared: Arc<Shared>,
    tasks: TaskTracker,
    stop: CancellationToken,
    started: Instant,
}

impl Fleet {
    /// Starts the fleet. The devices connect in the background and reconnect by themselves.
    pub fn start(config: FleetConfig, stop: &CancellationToken) -> Result<Self, SimulatorError> {
        Self::start_with(config, stop, None)
    }

    /// As [`Fleet::start`]; the listener gets every command and answer.
    pub fn start_with(
        config: FleetConfig,
        stop: &CancellationToken,
        listener: Option<CommandListener>,
    ) -> Result<Self, SimulatorError> {
        check(&config)?;
        let counters = Counters::default();
        let shared = Arc::new(Shared { config, counters, listener, n_arrivals: AtomicU64::new(0) });
        let fleet = Self { shared, tasks: TaskTracker::new(), stop: stop.child_token(), started: Instant::now() };
        for number in 0..fleet.shared.config.devices.len() {
            let connection = fleet.connection(number)?;
            fleet.tasks.spawn(connection.run(fleet.stop.clone()));
        }
        if let Some(duration) = fleet.shared.config.duration {
            let stop = fleet.stop.clone();
            fleet.tasks.spawn(async move {
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = tokio::time::sleep(duration) => stop.cancel(),
                }
            });
        }
        fleet.tasks.close();
        Ok(fleet)
    }

    /// The counters so far.
    pub fn report(&self) -> Report {
        self.shared.counters.report(self.started)
    }

    /// Disconnects the devices in order.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// Waits until every device has disconnected. A fleet without a duration runs until it is stopped.
    pub async fn finished(&self) -> Report {
        self.tasks.wait().await;
        self.report()
    }

    #[expect(clippy::cast_precision_loss, reason = "no fleet has 2^52 devices")]
    fn connection(&self, number: usize) -> Result<DeviceConnection, SimulatorError> {
        let config = &self.shared.config;
        let device = Device::new(config, number, config.clock.now());
        let n_devices = config.devices.len() as f64;
        let interval = Duration::from_secs_f64(n_devices / config.rate);
        Ok(DeviceConnection {
            options: client::options(config, &config.devices[number], &device.topics)?,
            schedule: Schedule::new(interval, config.heartbeat, number as f64 / n_devices),
            shared: self.shared.clone(),
            outbox: Outbox::default(),
            delayed: DelayedAnswers::default(),
            received_ids: ReceivedIds::default(),
            first_connect_after: BETWEEN_CONNECTS * u32::try_from(number).unwrap_or(u32::MAX),
            device,
        })
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn check(config: &FleetConfig) -> Result<(), SimulatorError> {
    if config.devices.is_empty() {
        return Err(SimulatorError::NoDevices);
    }
    let names = config.devices.iter().map(|device| &device.key).chain([&config.prefix, &config.home]);
    if let Some(name) = names.into_iter().find(|name| !is_topic_segment(name)) {
        return Err(SimulatorError::Name(name.clone()));
    }
    if config.rate > 0.0 && config.rate.is_finite() { Ok(()) } else { Err(SimulatorError::Rate) }
}

/// Keys, ids and MAC addresses; never a wildcard or a second segment.
fn is_topic_segment(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-:".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulator::VirtualDevice;

    fn config(keys: &[&str]) -> FleetConfig {
        let devices = keys.iter().map(|key| VirtualDevice::new(*key)).collect();
        FleetConfig::new("mqtt://127.0.0.1".parse().unwrap(), "1", devices)
    }

    #[test]
    fn unusable_settings_are_refused_at_the_start() {
        assert!(check(&config(&["a"])).is_ok());
        assert!(matches!(check(&config(&[])), Err(SimulatorError::NoDevices)));
        assert!(matches!(check(&config(&["a", "b/+"])), Err(SimulatorError::Name(name)) if name == "b/+"));
        let slow = FleetConfig { rate: 0.0, ..config(&["a"]) };
        assert!(matches!(check(&slow), Err(SimulatorError::Rate)));
    }
}
