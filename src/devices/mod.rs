//! The registry of devices, and what each last said of itself.

mod directory;
mod directory_store;
mod mac;
mod presence;
mod state;
mod state_store;

use crate::ids::{DeviceId, HomeId};

pub use directory::{DeviceName, Directory, DirectoryVersion, Known, Name, Resolved};
pub use mac::{Mac, MacError};
pub use presence::{Change, Presence, Sign};
pub use state::{DeviceState, Report, StateChange, StateHub, StatusReport};
pub use state_store::apply as apply_states;

/// Told of every change of the registry after its commit, so that no stale answer outlives it.
pub trait RegistryListener: Send + Sync {
    /// A device was made, changed or deleted.
    fn device_changed(&self, home: HomeId, device: DeviceId);
    /// A home was made, changed or deleted.
    fn home_changed(&self, home: HomeId);
}
