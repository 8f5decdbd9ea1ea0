//! The registry of devices: reading them, changing them, deleting them. Listeners are notified after the commit.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::accounts::{AccountChanges, Accounts};
use super::registry_cache::{REFRESH_EVERY, RegistryEntry};
use super::{Device, DeviceChange, DevicePage, Mac, RegistryCache, registry_store, store};
use crate::audit::{self, Action, Details, Entry, RequestContext};
use crate::background::periodic;
use crate::clock::Clock;
use crate::db::{self, MemoryBudget, Pool};
use crate::error::Error;
use crate::homes::{self, Access, Permission, RegistryListener};
use crate::hub;
use crate::ids::{DeviceId, HomeId, RoomId, UserId};
use crate::latch::Latch;
use crate::settings::MqttSettings;
use crate::validation;

/// Devices in all the rooms of one query.
const MAX_DEVICES_IN_ROOMS: usize = 10_000;

/// What [`Devices`] is made of.
pub struct DevicesDependencies {
    pub pool: Pool,
    pub clock: Clock,
    /// Is notified of every change; one of its listeners is `registry_cache`.
    pub listener: Arc<dyn RegistryListener>,
    /// The hubs whose streams end when their device is deleted.
    pub hubs: Arc<[Arc<dyn hub::Close>]>,
    pub registry_cache: RegistryCache,
    /// Bytes of readings that one device may store in a day; `None` for no limit.
    pub daily_storage: Option<u64>,
}

/// The registry of devices. Cheap to clone.
#[derive(Clone)]
pub struct Devices {
    pub(super) pool: Pool,
    pub(super) clock: Clock,
    pub(super) listener: Arc<dyn RegistryListener>,
    hubs: Arc<[Arc<dyn hub::Close>]>,
    pub(super) registry_cache: RegistryCache,
    pub(super) broker_url: Arc<str>,
    prefix: Arc<str>,
    pub(super) accounts: Accounts,
    pub(super) daily_storage: Option<u64>,
}

impl Devices {
    pub fn new(dependencies: DevicesDependencies, mqtt: &MqttSettings) -> Self {
        let DevicesDependencies { pool, clock, listener, hubs, registry_cache, daily_storage } = dependencies;
        Self {
            pool,
            clock,
            listener,
            hubs,
            registry_cache,
            broker_url: mqtt.public_url.as_str().into(),
            prefix: mqtt.prefix.as_str().into(),
            accounts: Accounts::new(&mqtt.provisioning),
            daily_storage,
        }
    }

    /// First segment of every topic.
    pub fn topic_prefix(&self) -> &str {
        &self.prefix
    }

    /// The pending changes of accounts at the broker; `None` where the broker asks the server about each login.
    pub fn account_changes(&self) -> Option<AccountChanges> {
        self.accounts.changes(self.clock.clone())
    }

    /// What the registry says of a device of the home; `None` where the home has no such device. It says nothing of
    /// any viewer's rights.
    pub async fn registry_entry(&self, home: HomeId, device: DeviceId) -> Result<Option<Arc<RegistryEntry>>, Error> {
        self.registry_cache.find(&self.pool, home, device).await
    }

    /// Removes from the registry cache what other servers have changed and what nobody reads.
    pub async fn refresh_registry_cache(&self) -> Result<(), Error> {
        self.registry_cache.refresh(&self.pool).await
    }

    pub async fn run_registry_cache_refresh(self, migrated: Latch, stop: CancellationToken) {
        let refresh = || self.refresh_registry_cache();
        periodic("the refresh of the registry cache", REFRESH_EVERY, migrated, stop, refresh).await;
    }

    /// The device, as `viewer` sees it. A device that the viewer may not see is not found.
    pub async fn find(&self, viewer: UserId, id: DeviceId) -> Result<Device, Error> {
        self.by_ids(viewer, &[id], true, &MemoryBudget::default()).await?.pop().ok_or(Error::NotFound("device"))
    }

    /// Those of these devices that `viewer` sees, by id, with the states that they reported if `with_reported`.
    pub async fn by_ids(
        &self,
        viewer: UserId,
        ids: &[DeviceId],
        with_reported: bool,
        budget: &MemoryBudget,
    ) -> Result<Vec<Device>, Error> {
        let mut conn = self.pool.get().await?;
        store::by_ids(&mut conn, viewer, ids, with_reported, budget).await
    }

    /// The devices in these rooms that `viewer` sees, by room and id, with the states that they reported if
    /// `with_reported`. Fails where there are more than `MAX_DEVICES_IN_ROOMS`.
    pub async fn by_rooms(
        &self,
        viewer: UserId,
        rooms: &[RoomId],
        with_reported: bool,
        budget: &MemoryBudget,
    ) -> Result<Vec<Device>, Error> {
        let mut conn = self.pool.get().await?;
        let limit = MAX_DEVICES_IN_ROOMS as i64 + 1;
        let devices = store::by_rooms(&mut conn, viewer, rooms, limit, with_reported, budget).await?;
        if devices.len() > MAX_DEVICES_IN_ROOMS {
            let message =
                format!("the rooms hold more than {MAX_DEVICES_IN_ROOMS} devices: page through those of the home");
            return Err(Error::bad_input("query", message));
        }
        Ok(devices)
    }

    /// A page of the devices of each home that `viewer` sees, by home and id.
    pub async fn page(
        &self,
        viewer: UserId,
        page: &DevicePage<'_>,
        budget: &MemoryBudget,
    ) -> Result<Vec<Device>, Error> {
        let mut conn = self.pool.get().await?;
        store::page(&mut conn, viewer, page, budget).await
    }

    /// Changes a device. Needs [`Permission::Configure`].
    pub async fn update(
        &self,
        access: Access,
        by: &RequestContext,
        id: DeviceId,
        mut change: DeviceChange,
    ) -> Result<Device, Error> {
        let by = by.clone();
        let access = access.require(Permission::Configure)?;
        let home = access.home();
        change.name = change.name.map(|name| validation::name("name", &name)).transpose()?;
        let listener = self.listener.clone();
        let notify = move |device| {
            listener.device_changed(home, id);
            device
        };
        db::transaction(&self.pool, move |conn| {
            Box::pin(async move {
                if let Some(Some(room)) = change.room
                    && registry_store::count_rooms(conn, home, &[room]).await? == 0
                {
                    return Err(Error::NotFound("room"));
                }
                let old = registry_store::lock(conn, home, id).await?.ok_or(Error::NotFound("device"))?;
                match registry_store::update(conn, home, id, &change).await {
                    Ok(()) => {}
                    Err(error) if db::is_unique_violation(&error) => {
                        return Err(mac_taken(change.mac.flatten().as_ref()));
                    }
                    Err(error) => return Err(room_or_home_not_found(error)),
                }
                let found = store::by_ids(conn, access.user(), &[id], true, &MemoryBudget::default()).await?.pop();
                let device = found.ok_or(Error::NotFound("device"))?;
                let details = changes(&old, &device);
                if details.is_change() {
                    let entry = Entry::new(Action::DeviceUpdate, audited(id, &device.key), details);
                    audit::record(conn, &by, home, &[entry]).await?;
                }
                Ok(device)
            })
        })
        .after_commit(notify)
        .await
    }

    /// Deletes the device with all its rows and ends its streams; goes on when the caller stops waiting. Needs
    /// [`Permission::Configure`] at the moment of the deletion.
    pub async fn delete(&self, access: Access, by: &RequestContext, id: DeviceId) -> Result<(), Error> {
        let access = access.require(Permission::Configure)?;
        let (devices, by) = (self.clone(), by.clone());
        db::run_to_completion(async move {
            let deletion = devices.delete_registration(access, by, id).await?;
            homes::complete_deletion(&devices.pool, deletion).await;
            Ok(())
        })
        .await
    }

    /// Deletes the device without its readings and notifies the listeners.
    async fn delete_registration(
        &self,
        access: Access,
        by: RequestContext,
        id: DeviceId,
    ) -> Result<homes::Deletion, Error> {
        let home = access.home();
        let deletion = db::transaction(&self.pool, move |conn| {
            Box::pin(async move {
                homes::lock_access(conn, access).await?.require(Permission::Configure)?;
                // Before the ingest lock: a transaction that sends the device something is waited for while ingest
                // goes on.
                registry_store::lock(conn, home, id).await?.ok_or(Error::NotFound("device"))?;
                let deletion = homes::record_deletion(conn, home, Some(id)).await?;
                homes::acquire_ingest_lock(conn).await?;
                let (key, name) = registry_store::delete(conn, home, id).await?.ok_or(Error::NotFound("device"))?;
                let details = Details::of(&id).with("key", &key).with("name", name);
                audit::record(conn, &by, home, &[Entry::new(Action::DeviceDelete, audited(id, &key), details)]).await?;
                Ok(deletion)
            })
        })
        .await?;
        self.accounts.wake();
        self.listener.device_changed(home, id);
        self.hubs.iter().for_each(|hub| hub.close_device(home, id));
        Ok(deletion)
    }
}

/// A device as an entry of the audit log names it.
pub(crate) fn audited(id: DeviceId, key: &str) -> String {
    format!("device {id} ({key})")
}

fn changes(old: &registry_store::Registration, new: &Device) -> Details {
    Details::of(&new.id)
        .change("name", &old.name, &new.name)
        .change("type", old.kind.as_str(), new.kind.as_str())
        .change("macAddress", &old.mac, &new.mac)
        .change("roomId", &room_text(old.room), &room_text(new.room))
}

pub(super) fn room_text(id: Option<RoomId>) -> Option<String> {
    id.map(|id| id.to_string())
}

/// A room or a home that was deleted a moment ago is not found.
pub(super) fn room_or_home_not_found(error: diesel::result::Error) -> Error {
    match db::violated_foreign_key(&error) {
        Some(key) => Error::NotFound(if key.contains("room") { "room" } else { "home" }),
        None => error.into(),
    }
}

pub(super) fn mac_taken(mac: Option<&Mac>) -> Error {
    let mac = mac.map_or_else(String::new, |mac| format!(" {mac}"));
    Error::Conflict(format!("macAddress{mac} is taken by another device of this home"))
}
