//! The registry of devices, and what each last said of itself.

mod credentials;
mod device;
mod directory;
mod directory_store;
mod kind;
mod mac;
mod presence;
mod registry;
mod registry_store;
mod state;
mod state_store;
mod store;

pub use credentials::{MqttCredentials, mqtt_client_id, password_digest};
pub use device::{Device, DeviceAccess, LastState};
pub use directory::{DeviceName, Directory, DirectoryVersion, Known, Name, Resolved};
pub use kind::{DeviceType, DeviceTypeError};
pub use mac::{Mac, MacError};
pub use presence::{Change, Presence, Sign};
pub use registry::{
    DeletionHub, DeviceChange, Devices, MAX_DEVICES_PER_CALL, MAX_DEVICES_PER_HOME, NewDevice, RegisteredDevice,
};
pub use state::{DeviceState, Report, StateChange, StateHub, StatusReport};
pub use state_store::apply as apply_states;
pub use store::DeviceFilter;

pub use crate::homes::RegistryListener;
