//! A registered device, as one member of its home sees it: what was entered and what it last said.

use chrono::{DateTime, Utc};
use serde_json::Value;

use super::{DeviceState, DeviceType};
use crate::db::{JsonText, MemorySize};
use crate::error::Error;
use crate::homes::{Access, Membership, Permission};
use crate::ids::{DeviceId, HomeId, RoomId};

/// A device and its present state.
#[derive(Debug, Clone, PartialEq)]
pub struct Device {
    /// Its id.
    pub id: DeviceId,
    /// Its home.
    pub home: HomeId,
    /// The key of its home.
    pub home_key: String,
    /// The name in its topics.
    pub key: String,
    /// What people call it.
    pub name: String,
    /// Canonical, where known.
    pub mac: Option<String>,
    /// What it is.
    pub kind: DeviceType,
    /// Where it stands.
    pub room: Option<RoomId>,
    /// When it was registered.
    pub created_at: DateTime<Utc>,
    /// What it last said of itself.
    pub state: LastState,
    /// How it last spelt its home in a topic.
    pub home_segment: Option<String>,
    /// How it last spelt itself in a topic.
    pub device_segment: Option<String>,
    pub(super) membership: Membership,
}

/// A device's state as it was read: the same as [`DeviceState`], the metadata parsed on demand.
#[derive(Debug, Clone, PartialEq)]
pub struct LastState {
    /// Whether it counts as present.
    pub online: bool,
    /// When that last changed.
    pub online_changed_at: Option<DateTime<Utc>>,
    /// Last sign of life.
    pub last_seen_at: Option<DateTime<Utc>>,
    /// As it last reported.
    pub firmware_version: Option<String>,
    /// dBm.
    pub signal_strength: Option<f64>,
    /// Percent.
    pub battery_level: Option<f64>,
    /// Messages that were let go, because it sent faster than its limit.
    pub shed_messages: i64,
    /// When the last of them came.
    pub last_shed_at: Option<DateTime<Utc>>,
    pub(super) metadata: Metadata,
}

/// Where metadata came from.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Metadata {
    Stored(JsonText),
    Live(Value),
}

impl MemorySize for Device {
    /// As it is stored: what is live is held by all who follow.
    fn text_bytes(&self) -> usize {
        match &self.state.metadata {
            Metadata::Stored(text) => text.text_bytes(),
            Metadata::Live(_) => 0,
        }
    }
}

/// Proof that somebody may read a device: made from a [`Device`] that was read for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DeviceAccess {
    access: Access,
    device: DeviceId,
}

impl Device {
    /// Access to its home, where the viewer's role includes the permission.
    pub fn allow(&self, permission: Permission) -> Result<Access, Error> {
        self.membership.allow(permission)
    }

    /// Proof that the viewer may read this of it.
    pub fn readable(&self, permission: Permission) -> Result<DeviceAccess, Error> {
        Ok(DeviceAccess { access: self.membership.allow(permission)?, device: self.id })
    }

    /// The device with a state that is newer than the one it was read with.
    pub fn with_state(mut self, state: &DeviceState) -> Self {
        self.state = LastState {
            online: state.online,
            online_changed_at: state.online_changed_at,
            last_seen_at: state.last_seen_at,
            firmware_version: state.firmware_version.clone(),
            signal_strength: state.signal_strength,
            battery_level: state.battery_level,
            shed_messages: state.shed_messages,
            last_shed_at: state.last_shed_at,
            metadata: Metadata::Live(state.metadata.clone()),
        };
        self
    }
}

impl LastState {
    /// About the bytes of [`LastState::metadata`].
    pub fn metadata_bytes(&self) -> usize {
        match &self.metadata {
            Metadata::Stored(text) => text.value_bytes(),
            Metadata::Live(value) => JsonText::of(value).value_bytes(),
        }
    }

    /// The seed's `{"lastStatus": {...}}`.
    pub fn metadata(&self) -> Value {
        match &self.metadata {
            Metadata::Stored(text) => text.parse(),
            Metadata::Live(value) => value.clone(),
        }
    }
}

impl DeviceAccess {
    /// The access to its home.
    pub fn access(&self) -> Access {
        self.access
    }

    /// The device.
    pub fn device(&self) -> DeviceId {
        self.device
    }
}
