//! Devices: their registry, their credentials and accounts at the broker, their presence and state.

mod accounts;
mod accounts_store;
mod cleanups;
mod cleanups_store;
mod counts;
mod counts_store;
mod credentials;
mod credentials_store;
mod daily_storage;
mod daily_storage_store;
mod device;
mod device_type;
mod directory;
mod directory_store;
mod feed;
mod listing_store;
mod lock_store;
mod logins;
mod lookups;
mod lookups_store;
mod mac;
mod new_device;
mod password_box;
mod presence;
mod registration;
mod registry;
mod registry_cache;
mod registry_cache_store;
mod registry_changes;
mod registry_store;
mod rotation;
mod sorting;
mod sorting_store;
mod state;
mod state_change;
mod state_store;
mod store;

pub use accounts::{AccountChange, AccountChanges, AccountLeader, ChangeKind, StoredAccount, stored_accounts};
pub use cleanups::{Cleanup, CleanupLeader, Cleanups, topics_to_clean_up};
pub use counts::Counted;
pub use credentials::{MqttCredentials, MqttUser, broker_hash, former_client_id, password_digest};
pub use device::{Device, DeviceAccess, LastState, Place, Reported};
pub use device_type::DeviceType;
pub use directory::{DeviceName, Directory, Resolved, ResolvedDevice, TopicAddress};
pub use directory_store::find_deleted;
pub use feed::StateItem;
pub use listing_store::{ListedDevice, list_devices};
pub(crate) use lock_store::lock_device;
pub use logins::{CredentialCache, Logins};
pub use lookups::{AllDevicesPage, DeviceRef};
pub use mac::{Mac, MacError};
pub use new_device::{DeviceChange, MAX_DEVICES_PER_CALL, NewDevice, RegisteredDevice};
pub use presence::{PresenceChange, PresenceEvent, PresenceTracker};
pub use registration::MAX_DEVICES_PER_HOME;
pub(crate) use registry::audited;
pub use registry::{Devices, DevicesDependencies};
pub use registry_cache::{RegistryCache, RegistryEntry};
pub use registry_changes::RegistryChanges;
pub use rotation::MAX_GRACE;
pub use sorting::{DeviceOrder, SortedBy, SortedDevice, SortedPage};
pub use state::{DeviceState, Report, StateHub, StatusReport};
pub use state_change::{Contact, Return, StateChange, StateReport, StoredBytes};
pub use state_store::upsert as upsert_states;
pub(crate) use store::{
    Columns as DeviceColumns, Registration, RegistrationColumns, Row as DeviceRow, device as read_device,
    names as read_names, registration as read_registration,
};
pub use store::{DeviceFilter, DevicePage};

pub use crate::homes::RegistryListener;
