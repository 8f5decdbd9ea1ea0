//! Configurations of devices: every push is a version, and the newest is the desired one. A version's status reports
//! only what the server has observed. Secrets are accepted and never read again.

mod answers_store;
mod content;
mod feed;
mod key_ring;
mod outbox;
mod outbox_store;
mod republish_store;
mod schema;
mod secrets;
mod service;
mod store;
mod transitions;

use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde_json::Value;

pub use answers_store::{find as find_for_ingest, record as record_answers};
pub use key_ring::KeyRing;
pub use outbox::{ConfigKey, ConfigOutbox};
pub use service::{DeviceConfigs, DeviceConfigsDependencies};
pub use store::DeviceConfig;
pub use transitions::{ConfigEvent, TRANSITIONS, next_status};

use crate::hub::Hub;
use crate::ids::DeviceId;
use crate::text_enum::text_enum;

text_enum! {
    /// The state of a version. [`TRANSITIONS`] lists its changes.
    pub enum ConfigStatus {
        /// Stored; the broker has not confirmed it.
        Pending = "PENDING",
        /// The broker confirmed the message and retains it for the device.
        Sent = "SENT",
        /// The device answered that it applied the version.
        Applied = "APPLIED",
        /// The device answered that it rejects the version.
        Rejected = "REJECTED",
        /// A newer version was pushed before the device answered.
        Superseded = "SUPERSEDED",
    }
}

/// How a pushed configuration relates to the newest version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConfigMode {
    /// A merge patch (RFC 7396): null deletes a key, absent keys stay.
    Merge,
    /// The whole configuration.
    Replace,
}

/// A configuration to push. May hold secrets, and so has no `Debug`.
pub struct NewConfig {
    /// An object.
    pub config: Value,
    pub mode: ConfigMode,
    /// The newest version that the caller knows, 0 for none. Another newest version is a conflict.
    pub expected_version: Option<i32>,
}

/// A device's answer to a version.
#[derive(Debug, Clone, PartialEq)]
pub struct ConfigAnswer {
    pub device: DeviceId,
    pub version: i32,
    pub kind: ConfigAnswerKind,
    /// When the answer was received.
    pub at: DateTime<Utc>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum ConfigAnswerKind {
    Applied,
    Rejected {
        /// The device's reasons, by key.
        errors: Option<Value>,
    },
}

/// Committed versions and their changes, live by home.
pub type ConfigHub = Hub<DeviceConfig>;

/// Sends committed changes to the subscribers of their homes.
pub fn notify(hub: &ConfigHub, configs: impl IntoIterator<Item = DeviceConfig>) {
    for config in configs {
        hub.publish(config.home, config.device, &Arc::new(config));
    }
}
