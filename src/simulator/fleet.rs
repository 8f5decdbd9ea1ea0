//! A running fleet: its connections, what it did, and its end.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::config::{FleetConfig, Pace};
use super::connection::Connection;
use super::device::Device;
use super::faults::Dice;
use super::outbox::Outbox;
use super::receipts::Receipts;
use super::report::{Counters, Ledger, Report};
use super::schedule::Schedule;
use super::waiting::WaitingAnswers;
use super::{SimulatorError, link};

/// 500 connects a second.
const BETWEEN_CONNECTS: Duration = Duration::from_millis(2);
/// Keeps the dice of the links apart from those of the devices.
const LINK_DICE: u64 = 0x5EED_0F11_4B5D_1CE5;

/// What all connections of a fleet share.
pub(crate) struct Shared {
    pub(crate) config: FleetConfig,
    pub(crate) counters: Counters,
    pub(crate) ledger: Ledger,
    pub(crate) receipts: Receipts,
    next_number: AtomicU64,
}

impl Shared {
    /// The number of the next telemetry message, while there are any to send.
    pub(crate) fn take_number(&self) -> Option<u64> {
        let most = self.config.messages.unwrap_or(u64::MAX);
        let take = |next: u64| (next < most).then_some(next + 1);
        self.next_number.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).ok()
    }

    /// Whether all messages the fleet was to send are measured.
    pub(crate) fn is_spent(&self) -> bool {
        self.config.messages.is_some_and(|most| self.next_number.load(Ordering::Relaxed) >= most)
    }
}

/// A running fleet. It stops with the token it was started with, after its duration, or when it has
/// sent all it was to send; dropping it stops it too.
pub struct Fleet {
    shared: Arc<Shared>,
    tasks: TaskTracker,
    stop: CancellationToken,
    started: Instant,
}

impl Fleet {
    /// Starts the fleet's connections; they come up on their own and come back when broken.
    pub fn start(config: FleetConfig, stop: &CancellationToken) -> Result<Self, SimulatorError> {
        let groups = groups(&config)?;
        let shared = Arc::new(Shared {
            counters: Counters::default(),
            ledger: Ledger::default(),
            receipts: Receipts::default(),
            next_number: AtomicU64::new(0),
            config,
        });
        let fleet = Self { shared, tasks: TaskTracker::new(), stop: stop.child_token(), started: Instant::now() };
        for (index, group) in groups.into_iter().enumerate() {
            let connection = fleet.connection(index, &group)?;
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

    /// What it did so far.
    pub fn report(&self) -> Report {
        self.shared.counters.report(self.started)
    }

    /// Which numbered messages were sent and confirmed.
    pub fn ledger(&self) -> &Ledger {
        &self.shared.ledger
    }

    /// Which commands its devices have read, and what they said to them.
    pub fn receipts(&self) -> &Receipts {
        &self.shared.receipts
    }

    /// Tells the fleet to say goodbye.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// Waits until every connection has said goodbye, and reports. A fleet without a number of
    /// messages or a duration runs until it is stopped.
    pub async fn finished(&self) -> Report {
        self.tasks.wait().await;
        self.report()
    }

    fn connection(&self, index: usize, group: &[usize]) -> Result<Connection, SimulatorError> {
        let config = &self.shared.config;
        let now = config.clock.now();
        let number = |index: usize| u64::try_from(index).expect("a usize fits");
        let devices: Vec<Device> = group.iter().map(|&device| Device::new(config, device, now)).collect();
        // One connection has one will: the first device's.
        let options = link::options(config, &config.devices[group[0]], &devices[0].topics)?;
        Ok(Connection {
            schedule: Schedule::new(config.pace, config.heartbeat, config.devices.len(), group),
            dice: Dice::new(config.faults, config.seed ^ LINK_DICE, number(index)),
            rng: fastrand::Rng::with_seed(config.seed.wrapping_add(number(index))),
            shared: self.shared.clone(),
            outbox: Outbox::new(config.window, devices.len()),
            waiting: WaitingAnswers::new(devices.len()),
            first_connect_after: BETWEEN_CONNECTS * u32::try_from(index).unwrap_or(u32::MAX),
            devices,
            options,
        })
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Which devices share a connection, after a check of what the fleet was told.
fn groups(config: &FleetConfig) -> Result<Vec<Vec<usize>>, SimulatorError> {
    let devices = config.devices.len();
    if devices == 0 {
        return Err(SimulatorError::NoDevices);
    }
    let names = config.devices.iter().map(|device| &device.key).chain([&config.prefix, &config.home]);
    if let Some(name) = names.into_iter().find(|name| !is_segment(name)) {
        return Err(SimulatorError::Name(name.clone()));
    }
    if let Pace::PerSecond(rate) = config.pace
        && !(rate > 0.0 && rate.is_finite())
    {
        return Err(SimulatorError::Rate);
    }
    let connections = config.connections.unwrap_or(devices).clamp(1, devices);
    if connections < devices {
        let first = &config.devices[0].credentials;
        if config.devices.iter().any(|device| device.credentials != *first) {
            return Err(SimulatorError::SharedConnection);
        }
    }
    Ok((0..connections).map(|first| (first..devices).step_by(connections).collect()).collect())
}

/// Keys, ids and MAC addresses; never a wildcard or a second segment.
fn is_segment(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-:".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Secret;
    use crate::simulator::{Credentials, VirtualDevice};

    fn config(keys: &[&str]) -> FleetConfig {
        let devices = keys.iter().map(|key| VirtualDevice::new(*key)).collect();
        FleetConfig::new("mqtt://127.0.0.1".parse().unwrap(), "1", devices)
    }

    #[test]
    fn devices_are_dealt_to_connections_in_turn() {
        let config = FleetConfig { connections: Some(2), ..config(&["a", "b", "c", "d", "e"]) };
        assert_eq!(groups(&config).unwrap(), [vec![0, 2, 4], vec![1, 3]]);
        assert_eq!(groups(&FleetConfig { connections: None, ..config }).unwrap().len(), 5);
    }

    #[test]
    fn what_cannot_work_is_refused_at_the_start() {
        assert!(matches!(groups(&config(&[])), Err(SimulatorError::NoDevices)));
        assert!(matches!(groups(&config(&["a", "b/+"])), Err(SimulatorError::Name(name)) if name == "b/+"));
        let slow = FleetConfig { pace: Pace::PerSecond(0.0), ..config(&["a"]) };
        assert!(matches!(groups(&slow), Err(SimulatorError::Rate)));
        let mut shared = FleetConfig { connections: Some(1), ..config(&["a", "b"]) };
        shared.devices[1].credentials = Some(Credentials { username: "b".into(), password: Secret::new("x") });
        assert!(matches!(groups(&shared), Err(SimulatorError::SharedConnection)));
    }
}
