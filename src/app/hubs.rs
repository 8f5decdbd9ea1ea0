//! What connects the parts of one server: the hubs that publish committed changes, and what wakes the outboxes.

use std::sync::Arc;

use crate::commands::{CommandHub, Expectations, ReturnedDevices};
use crate::device_config::ConfigHub;
use crate::devices::{CredentialCache, RegistryCache, RegistryChanges, RegistryListener, StateHub};
use crate::hub;
use crate::metrics::{Metrics, Stream};
use crate::outbox::Wake;
use crate::standby::Standby;
use crate::telemetry::{Partitions, ReadingHub};

/// The hubs, the wake-ups and the caches that a change of the registry invalidates.
#[derive(Clone)]
pub struct Hubs {
    pub readings: ReadingHub,
    pub states: StateHub,
    pub commands: CommandHub,
    pub configs: ConfigHub,
    /// Whether another server ingests.
    pub standby: Standby,
    /// Effects that open commands wait for.
    pub expectations: Expectations,
    /// Devices that came back and may have missed commands.
    pub returned_devices: ReturnedDevices,
    /// Asks for the partition of a month.
    pub partitions: Partitions,
    pub command_wake: Wake,
    pub config_wake: Wake,
    pub registry_changes: RegistryChanges,
    pub credential_cache: CredentialCache,
    pub registry_cache: RegistryCache,
    /// Is called after each change of a home's devices.
    pub registry_listener: Arc<dyn RegistryListener>,
}

impl Hubs {
    pub fn new(metrics: &Metrics) -> Self {
        let registry_changes = RegistryChanges::default();
        let credential_cache = CredentialCache::new(metrics.clone());
        let registry_cache = RegistryCache::default();
        let caches = (credential_cache.clone(), registry_cache.clone());
        let (readings, states) = (ReadingHub::default(), StateHub::default());
        let (commands, configs) = (CommandHub::default(), ConfigHub::default());
        sample(metrics, "telemetry", readings.clone(), ReadingHub::max_waiting);
        sample(metrics, "device_status", states.clone(), StateHub::max_waiting);
        sample(metrics, "command_updates", commands.clone(), CommandHub::max_waiting);
        sample(metrics, "config_updates", configs.clone(), ConfigHub::max_waiting);
        Self {
            standby: Standby::new(of_streams(&readings, &states, &commands, &configs)),
            readings,
            states,
            commands,
            configs,
            expectations: Expectations::default(),
            returned_devices: ReturnedDevices::unknown(),
            partitions: Partitions::default(),
            command_wake: Wake::default(),
            config_wake: Wake::default(),
            registry_listener: Arc::new((registry_changes.clone(), caches)),
            registry_changes,
            credential_cache,
            registry_cache,
        }
    }

    /// The hubs whose streams end when their home or device is deleted.
    pub fn of_streams(&self) -> Arc<[Arc<dyn hub::Close>]> {
        of_streams(&self.readings, &self.states, &self.commands, &self.configs)
    }
}

/// Shows in the metrics how many events of a hub wait.
fn sample<H: Send + Sync + 'static>(metrics: &Metrics, stream: &'static str, hub: H, waiting: fn(&H) -> usize) {
    let gauge = metrics.hub_waiting.get_or_create(&Stream { stream }).clone();
    gauge.read_from(move || waiting(&hub) as f64);
}

fn of_streams(
    readings: &ReadingHub,
    states: &StateHub,
    commands: &CommandHub,
    configs: &ConfigHub,
) -> Arc<[Arc<dyn hub::Close>]> {
    Arc::new([
        Arc::new(readings.clone()),
        Arc::new(states.clone()),
        Arc::new(commands.clone()),
        Arc::new(configs.clone()),
    ])
}
