//! The registry: which devices there are, and what may be changed about them. Listeners hear of a
//! change after its commit.

use std::collections::HashSet;
use std::sync::Arc;

use super::accounts::{Accounts, Fresh};
use super::credentials::{MqttUser, mqtt_client_id};
use super::{Device, DeviceFilter, DeviceType, Mac, MqttCredentials, registry_store, store};
use crate::audit::{self, Action, Details, Entry, RequestContext};
use crate::clock::Clock;
use crate::db::{self, MemoryBudget, Pool};
use crate::error::Error;
use crate::homes::{self, Access, Permission, RegistryListener};
use crate::hub::Hub;
use crate::ids::{DeviceId, HomeId, RoomId, UserId};
use crate::settings::MqttSettings;
use crate::validation;

/// Devices registered at once.
pub const MAX_DEVICES_PER_CALL: usize = 1_000;
/// Devices one home may have.
pub const MAX_DEVICES_PER_HOME: i64 = 10_000;
/// Devices of all the rooms that are asked for at once.
const MAX_IN_ROOMS: usize = 10_000;

/// Tells the streams of a device that it is no more, by home.
pub type DeletionHub = Hub<DeviceId>;

/// A device to register, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewDevice {
    /// The name in its topics, unique in its home.
    pub key: String,
    /// What people call it.
    pub name: String,
    /// What it is.
    pub kind: DeviceType,
    /// Another name for it in topics, unique in its home.
    pub mac: Option<Mac>,
    /// Where it stands.
    pub room: Option<RoomId>,
}

/// What to change about a device; `None` leaves it, `Some(None)` clears it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeviceChange {
    /// A new name.
    pub name: Option<String>,
    /// A new type.
    pub kind: Option<DeviceType>,
    /// A new MAC address, or none.
    pub mac: Option<Option<Mac>>,
    /// Another room, or none.
    pub room: Option<Option<RoomId>>,
}

/// A device that was just registered.
#[derive(Debug, Clone)]
pub struct RegisteredDevice {
    /// The device.
    pub device: Device,
    /// Its credentials, never seen again.
    pub credentials: MqttCredentials,
}

/// The registry of devices. Cheap to clone.
#[derive(Clone)]
pub struct Devices {
    pub(super) pool: Pool,
    pub(super) clock: Clock,
    pub(super) listener: Arc<dyn RegistryListener>,
    deletions: DeletionHub,
    pub(super) broker_url: Arc<str>,
    prefix: Arc<str>,
    pub(super) accounts: Accounts,
}

impl Devices {
    /// The service over its pool. `listener` hears of every change, `deletions` of every device that goes.
    pub fn new(
        pool: Pool,
        clock: Clock,
        listener: Arc<dyn RegistryListener>,
        deletions: DeletionHub,
        mqtt: &MqttSettings,
    ) -> Self {
        Self {
            pool,
            clock,
            listener,
            deletions,
            broker_url: mqtt.public_url.as_str().into(),
            prefix: mqtt.prefix.as_str().into(),
            accounts: Accounts::new(&mqtt.provisioning),
        }
    }

    /// First segment of every topic.
    pub fn topic_prefix(&self) -> &str {
        &self.prefix
    }

    /// Where the end of devices is told.
    pub fn deletions(&self) -> &DeletionHub {
        &self.deletions
    }

    /// The device, as `viewer` sees it; one of a foreign home is as absent as none.
    pub async fn find(&self, viewer: UserId, id: DeviceId) -> Result<Device, Error> {
        self.by_ids(viewer, &[id], &MemoryBudget::default()).await?.pop().ok_or(Error::NotFound("device"))
    }

    /// Those of `ids` that `viewer` sees, by id.
    pub async fn by_ids(&self, viewer: UserId, ids: &[DeviceId], budget: &MemoryBudget) -> Result<Vec<Device>, Error> {
        let mut conn = self.pool.get().await?;
        store::by_ids(&mut conn, viewer, ids, budget).await
    }

    /// The devices in these rooms, where `viewer` sees them, by room and id; refused where there are more
    /// than 10,000.
    pub async fn by_rooms(
        &self,
        viewer: UserId,
        rooms: &[RoomId],
        budget: &MemoryBudget,
    ) -> Result<Vec<Device>, Error> {
        let mut conn = self.pool.get().await?;
        let devices = store::by_rooms(&mut conn, viewer, rooms, budget).await?;
        if devices.len() > MAX_IN_ROOMS {
            let message = format!("the rooms hold more than {MAX_IN_ROOMS} devices: page through those of the home");
            return Err(Error::bad_input("query", message));
        }
        Ok(devices)
    }

    /// Up to `limit` devices of each home, by home and id, from after a device on. Homes `viewer` is no
    /// member of have none.
    pub async fn page(
        &self,
        viewer: UserId,
        homes: &[HomeId],
        filter: &DeviceFilter,
        after: Option<DeviceId>,
        limit: i64,
        budget: &MemoryBudget,
    ) -> Result<Vec<Device>, Error> {
        let mut conn = self.pool.get().await?;
        store::page(&mut conn, viewer, homes, filter, after, limit, budget).await
    }

    /// Registers devices, all or none of them, in the order given. Needs [`Permission::Configure`].
    pub async fn register(
        &self,
        access: Access,
        by: &RequestContext,
        new: Vec<NewDevice>,
    ) -> Result<Vec<RegisteredDevice>, Error> {
        let by = by.clone();
        let access = access.require(Permission::Configure)?;
        let home = access.home();
        let new = checked(new)?;
        let fresh = Fresh::make(new.len()).await?;
        let passwords: Vec<_> = fresh.iter().map(|fresh| fresh.password.clone()).collect();
        let (now, accounts) = (self.clock.now(), self.accounts.clone());
        let service = self.clone();
        let tell = move |devices: Vec<Device>| {
            service.accounts.wake();
            service.tell(home, &devices);
            devices
        };
        let devices = db::transaction(&self.pool, move |conn| {
            Box::pin(async move {
                if !registry_store::lock_home(conn, home).await? {
                    return Err(Error::NotFound("home"));
                }
                let rooms: HashSet<_> = new.iter().filter_map(|device| device.room).collect();
                let rooms: Vec<_> = rooms.into_iter().collect();
                if !rooms.is_empty() && registry_store::count_rooms(conn, home, &rooms).await? != rooms.len() as i64 {
                    return Err(Error::NotFound("room"));
                }
                if registry_store::count(conn, home).await? + new.len() as i64 > MAX_DEVICES_PER_HOME {
                    return Err(Error::Conflict(format!("a home has at most {MAX_DEVICES_PER_HOME} devices")));
                }
                let ids = registry_store::insert(conn, home, &new, now).await.map_err(gone)?;
                if ids.len() < new.len() {
                    return Err(conflict(conn, home, &new, &ids).await?);
                }
                let mut ids: std::collections::HashMap<_, _> = ids.into_iter().collect();
                let ids: Vec<DeviceId> = new.iter().filter_map(|device| ids.remove(&device.key)).collect();
                let devices = store::by_ids(conn, access.user(), &ids, &MemoryBudget::default()).await?;
                let mut devices: std::collections::HashMap<_, _> = devices.into_iter().map(|d| (d.id, d)).collect();
                // None is missing but where the membership went meanwhile.
                let in_order: Option<Vec<Device>> = ids.iter().map(|id| devices.remove(id)).collect();
                let in_order = in_order.ok_or(Error::NotFound("home"))?;
                let users = in_order.iter().map(|device| (device.id, plain_user(device)));
                accounts.insert(conn, users.zip(&fresh).collect(), now).await?;
                let entries: Vec<_> = in_order.iter().map(registered_entry).collect();
                audit::record(conn, &by, home, &entries).await?;
                Ok(in_order)
            })
        })
        .after_commit(tell)
        .await?;
        Ok(devices.into_iter().zip(passwords).map(|(device, secret)| self.registered(device, secret)).collect())
    }

    /// Changes what is given and leaves the rest. Needs [`Permission::Configure`].
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
        let tell = move |device| {
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
                    Err(error) => return Err(gone(error)),
                }
                let found = store::by_ids(conn, access.user(), &[id], &MemoryBudget::default()).await?.pop();
                let device = found.ok_or(Error::NotFound("device"))?;
                let details = changes(&old, &device);
                if details.is_change() {
                    let entry = Entry::new(Action::DeviceUpdate, audited(id, &device.key), details);
                    audit::record(conn, &by, home, &[entry]).await?;
                }
                Ok(device)
            })
        })
        .after_commit(tell)
        .await
    }

    /// Deletes the device and every row of it, and ends its streams, whether or not the caller waits for
    /// it. Needs [`Permission::Configure`] at the moment of the decision.
    pub async fn delete(&self, access: Access, by: &RequestContext, id: DeviceId) -> Result<(), Error> {
        let access = access.require(Permission::Configure)?;
        let (devices, by) = (self.clone(), by.clone());
        db::run_to_completion(async move {
            let deletion = devices.decide_deletion(access, by, id).await?;
            homes::finish_deletion(&devices.pool, deletion).await;
            Ok(())
        })
        .await
    }

    /// The device is gone, and whoever holds something of it is told. Its readings are left.
    async fn decide_deletion(
        &self,
        access: Access,
        by: RequestContext,
        id: DeviceId,
    ) -> Result<homes::Deletion, Error> {
        let home = access.home();
        let deletion = db::transaction(&self.pool, move |conn| {
            Box::pin(async move {
                homes::lock_access(conn, access).await?.require(Permission::Configure)?;
                // Before the gate: whoever sends it something is waited for with ingest running.
                registry_store::lock(conn, home, id).await?.ok_or(Error::NotFound("device"))?;
                let deletion = homes::note_deletion(conn, home, Some(id)).await?;
                homes::close_ingest_gate(conn).await?;
                let (key, name) = registry_store::delete(conn, home, id).await?.ok_or(Error::NotFound("device"))?;
                let details = Details::of(&id).with("key", &key).with("name", name);
                audit::record(conn, &by, home, &[Entry::new(Action::DeviceDelete, audited(id, &key), details)]).await?;
                Ok(deletion)
            })
        })
        .await?;
        self.accounts.wake();
        self.listener.device_changed(home, id);
        self.deletions.publish(home, Arc::new(id));
        Ok(deletion)
    }

    fn tell(&self, home: HomeId, devices: &[Device]) {
        match devices {
            [device] => self.listener.device_changed(home, device.id),
            _ => self.listener.home_changed(home),
        }
    }

    fn registered(&self, device: Device, password: crate::settings::Secret) -> RegisteredDevice {
        let username = plain_user(&device).to_string();
        let client_id = mqtt_client_id(&device.home_key, &device.key);
        let broker_url = self.broker_url.to_string();
        let credentials = MqttCredentials { client_id, username, password, broker_url };
        RegisteredDevice { device, credentials }
    }
}

/// The device's first MQTT user.
fn plain_user(device: &Device) -> MqttUser<'_> {
    MqttUser { home: &device.home_key, device: &device.key, slot: 0 }
}

/// A device as an entry of the audit log names it.
pub(crate) fn audited(id: DeviceId, key: &str) -> String {
    format!("device {id} ({key})")
}

fn registered_entry(device: &Device) -> Entry {
    let details = Details::of(&device.id).with("key", &device.key).with("name", &device.name);
    let details =
        details.with("type", device.kind.as_str()).with("macAddress", &device.mac).with("roomId", room(device.room));
    Entry::new(Action::DeviceRegister, audited(device.id, &device.key), details)
}

fn changes(old: &registry_store::Entered, new: &Device) -> Details {
    Details::of(&new.id)
        .change("name", &old.name, &new.name)
        .change("type", old.kind.as_str(), new.kind.as_str())
        .change("macAddress", &old.mac, &new.mac)
        .change("roomId", &room(old.room), &room(new.room))
}

fn room(id: Option<RoomId>) -> Option<String> {
    id.map(|id| id.to_string())
}

/// Names and keys in their right form, and no two of the batch in each other's way.
fn checked(mut new: Vec<NewDevice>) -> Result<Vec<NewDevice>, Error> {
    if !(1..=MAX_DEVICES_PER_CALL).contains(&new.len()) {
        return Err(Error::bad_input("devices", format!("devices must have 1 to {MAX_DEVICES_PER_CALL} entries")));
    }
    let (mut keys, mut macs) = (HashSet::new(), HashSet::new());
    for device in &mut new {
        device.key = validation::key("key", &device.key)?;
        device.name = validation::name("name", &device.name)?;
        if !keys.insert(device.key.clone()) {
            return Err(Error::Conflict(format!("key {:?} is given twice", device.key)));
        }
        if let Some(mac) = &device.mac
            && !macs.insert(mac.clone())
        {
            return Err(Error::Conflict(format!("macAddress {mac} is given twice")));
        }
    }
    Ok(new)
}

/// A room or a home that was deleted a moment ago is as absent as any.
fn gone(error: diesel::result::Error) -> Error {
    match db::violated_foreign_key(&error) {
        Some(key) => Error::NotFound(if key.contains("room") { "room" } else { "home" }),
        None => error.into(),
    }
}

/// Why not all of `new` went in.
async fn conflict(
    conn: &mut db::Connection,
    home: HomeId,
    new: &[NewDevice],
    inserted: &[(String, DeviceId)],
) -> Result<Error, Error> {
    let inserted: HashSet<&str> = inserted.iter().map(|(key, _)| key.as_str()).collect();
    let refused = || new.iter().filter(|device| !inserted.contains(device.key.as_str()));
    let keys: Vec<_> = refused().map(|device| device.key.as_str()).collect();
    let macs: Vec<_> = refused().filter_map(|device| device.mac.as_ref().map(Mac::as_str)).collect();
    Ok(match registry_store::taken(conn, home, &keys, &macs).await? {
        Some((key, _)) if keys.contains(&key.as_str()) => {
            Error::Conflict(format!("key {key:?} is taken by another device of this home"))
        }
        Some((_, mac)) => mac_taken(mac.and_then(|mac| mac.parse().ok()).as_ref()),
        None => Error::Conflict("a key or macAddress is taken by another device of this home".to_owned()),
    })
}

fn mac_taken(mac: Option<&Mac>) -> Error {
    let mac = mac.map_or_else(String::new, |mac| format!(" {mac}"));
    Error::Conflict(format!("macAddress{mac} is taken by another device of this home"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(key: &str, mac: Option<&str>) -> NewDevice {
        let mac = mac.map(|mac| mac.parse().unwrap());
        NewDevice { key: key.to_owned(), name: " Lamp ".to_owned(), kind: DeviceType::Light, mac, room: None }
    }

    #[test]
    fn a_batch_is_checked_before_it_meets_the_database() {
        assert_eq!(checked(vec![device("a", None)]).unwrap()[0].name, "Lamp");
        let mac = Some("24:6F:28:AA:BB:CC");
        for (wrong, code) in [
            (vec![], "BAD_USER_INPUT"),
            (vec![device("42", None)], "BAD_USER_INPUT"),
            (vec![device("a", None), device("a", None)], "CONFLICT"),
            (vec![device("a", mac), device("b", mac)], "CONFLICT"),
            ((0..1001).map(|n| device(&format!("d{n}"), None)).collect(), "BAD_USER_INPUT"),
        ] {
            assert_eq!(checked(wrong).unwrap_err().code(), code);
        }
    }
}
