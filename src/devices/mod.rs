//! The registry of devices, and what each last said of itself.

mod accounts;
mod accounts_store;
mod credentials;
mod credentials_store;
mod device;
mod directory;
mod directory_store;
mod feed;
mod kind;
mod lock_store;
mod logins;
mod mac;
mod password_box;
mod presence;
mod registry;
mod registry_store;
mod rotation;
mod state;
mod state_store;
mod store;

pub use accounts::{AccountChange, AccountChanges, AccountLeader, ChangeKind, StoredAccount, stored_accounts};
pub use credentials::{MqttCredentials, MqttUser, broker_hash, mqtt_client_id, password_digest};
pub use device::{Device, DeviceAccess, LastState};
pub use directory::{DeviceName, Directory, DirectoryVersion, Resolved, ResolvedDevice, TopicAddress};
pub use directory_store::find_deleted;
pub use kind::{DeviceType, DeviceTypeError};
pub(crate) use lock_store::lock_device;
pub use logins::{CredentialCache, Logins};
pub use mac::{Mac, MacError};
pub use presence::{PresenceChange, PresenceEvent, PresenceTracker};
pub(crate) use registry::audited;
pub use registry::{
    DeletionHub, DeviceChange, Devices, MAX_DEVICES_PER_CALL, MAX_DEVICES_PER_HOME, NewDevice, RegisteredDevice,
};
pub use rotation::MAX_GRACE;
pub use state::{Contact, DeviceState, Report, StateChange, StateHub, StatusReport};
pub use state_store::upsert as upsert_states;
pub use store::DeviceFilter;

pub use crate::homes::RegistryListener;
