//! The registry of devices, and what each last said of itself.

mod credentials;
mod device;
mod kind;
mod mac;
mod registry;
mod registry_store;
mod state;
mod store;

pub use credentials::{MqttCredentials, password_digest};
pub use device::{Device, DeviceAccess, LastState};
pub use kind::{DeviceType, DeviceTypeError};
pub use mac::{Mac, MacError};
pub use registry::{
    DeletionHub, DeviceChange, Devices, MAX_DEVICES_PER_CALL, MAX_DEVICES_PER_HOME, NewDevice, RegisteredDevice,
};
pub use state::{DeviceState, StateHub};
pub use store::DeviceFilter;

pub use crate::homes::RegistryListener;
