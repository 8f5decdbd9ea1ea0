//! A registered device as one member of its home sees it, with its last state.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde_json::Value;

use super::{DeviceState, DeviceType};
use crate::db::{JsonText, MemorySize};
use crate::error::Error;
use crate::homes::{Access, Home, Membership, Permission, Room};
use crate::ids::{DeviceId, HomeId, RoomId};

#[derive(Debug, Clone, PartialEq)]
pub struct Device {
    pub id: DeviceId,
    pub home: HomeId,
    pub home_key: String,
    /// The name in its topics.
    pub key: String,
    /// The name that people see.
    pub name: String,
    /// In canonical form.
    pub mac: Option<String>,
    pub kind: DeviceType,
    pub room: Option<RoomId>,
    pub created_at: DateTime<Utc>,
    pub state: LastState,
    /// The home as the device last spelt it in a topic.
    pub home_segment: Option<String>,
    /// The device as it last spelt itself in a topic.
    pub device_segment: Option<String>,
    /// Its home and room, where they are known already.
    pub place: Option<Place>,
    pub(super) membership: Membership,
}

/// The home and the room of a device, as one member sees them.
#[derive(Debug, Clone, PartialEq)]
pub struct Place {
    pub home: Arc<Home>,
    pub room: Option<Arc<Room>>,
}

/// A device's state: the same as [`DeviceState`], with metadata that is parsed on demand.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LastState {
    pub online: bool,
    /// When `online` last changed.
    pub online_changed_at: Option<DateTime<Utc>>,
    /// When a message of the device was last received.
    pub last_seen_at: Option<DateTime<Utc>>,
    pub firmware_version: Option<String>,
    /// dBm.
    pub signal_strength: Option<f64>,
    /// Percent.
    pub battery_level: Option<f64>,
    /// Messages dropped because the device exceeded its rate limit.
    pub shed_messages: i64,
    /// When the last of them was received.
    pub last_shed_at: Option<DateTime<Utc>>,
    pub(super) metadata: StateJson,
    /// What the device last reported itself to be; `None` too if it was not read.
    pub reported: Option<Reported>,
}

/// What a device reported itself to be in a status.
#[derive(Debug, Clone, PartialEq)]
pub struct Reported {
    pub(super) state: StateJson,
    /// When the device made the status, or its receipt.
    pub at: DateTime<Utc>,
}

/// JSON that a device reported: as the database has it, or as the hub publishes it.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum StateJson {
    Stored(JsonText),
    Live(Arc<Value>),
}

impl Default for StateJson {
    fn default() -> Self {
        Self::Live(Arc::default())
    }
}

impl StateJson {
    /// The approximate memory of the parsed value.
    fn value_bytes(&self) -> usize {
        match self {
            Self::Stored(text) => text.value_bytes(),
            Self::Live(value) => JsonText::of(&**value).value_bytes(),
        }
    }

    fn value(&self) -> Value {
        match self {
            Self::Stored(text) => text.parse(),
            Self::Live(value) => (**value).clone(),
        }
    }

    /// Live JSON is shared by all subscribers, so only stored JSON counts.
    fn text_bytes(&self) -> usize {
        match self {
            Self::Stored(text) => text.text_bytes(),
            Self::Live(_) => 0,
        }
    }
}

impl MemorySize for Device {
    fn text_bytes(&self) -> usize {
        let reported = self.state.reported.as_ref();
        self.state.metadata.text_bytes() + reported.map_or(0, |reported| reported.state.text_bytes())
    }
}

/// Proof that a viewer may read a device: made from a [`Device`] that was read for the viewer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DeviceAccess {
    access: Access,
    device: DeviceId,
}

impl Device {
    /// Access to the device's home, where the viewer's role has the permission.
    pub fn allow(&self, permission: Permission) -> Result<Access, Error> {
        self.membership.allow(permission)
    }

    /// Proof that the viewer has this permission for the device.
    pub fn readable(&self, permission: Permission) -> Result<DeviceAccess, Error> {
        Ok(DeviceAccess { access: self.membership.allow(permission)?, device: self.id })
    }

    /// The device with a newer state.
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
            metadata: StateJson::Live(state.metadata.clone()),
            reported: state.reported.clone(),
        };
        self
    }
}

impl LastState {
    /// The approximate memory of [`LastState::metadata`].
    pub fn metadata_bytes(&self) -> usize {
        self.metadata.value_bytes()
    }

    /// `{"lastStatus": {...}}`: the last status message.
    pub fn metadata(&self) -> Value {
        self.metadata.value()
    }
}

impl Reported {
    /// From two columns that are null together.
    pub(super) fn read(state: Option<StateJson>, at: Option<DateTime<Utc>>) -> Option<Self> {
        Some(Self { state: state?, at: at? })
    }

    /// The approximate memory of [`Reported::state`].
    pub fn state_bytes(&self) -> usize {
        self.state.value_bytes()
    }

    /// The fields of the state, an object.
    pub fn state(&self) -> Value {
        self.state.value()
    }
}

impl DeviceAccess {
    pub fn access(&self) -> Access {
        self.access
    }

    pub fn device(&self) -> DeviceId {
        self.device
    }
}
