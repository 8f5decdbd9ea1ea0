//! Registers devices, with their first passwords.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, Utc};

use super::accounts::GeneratedPassword;
use super::credentials::{MqttUser, new_client_id};
use super::new_device::validated;
use super::registry::{audited, mac_taken, room_or_home_not_found, room_text};
use super::{Device, Devices, Mac, MqttCredentials, NewDevice, RegisteredDevice, registry_store, store};
use crate::audit::{self, Action, Details, Entry, RequestContext};
use crate::db::{self, MemoryBudget};
use crate::error::Error;
use crate::homes::{Access, Permission};
use crate::ids::{DeviceId, HomeId};
use crate::settings::Secret;

/// Devices of one home.
pub const MAX_DEVICES_PER_HOME: i64 = 10_000;

impl Devices {
    /// Registers devices in the given order, all or none of them. Needs [`Permission::Configure`].
    pub async fn register(
        &self,
        access: Access,
        by: &RequestContext,
        new: Vec<NewDevice>,
    ) -> Result<Vec<RegisteredDevice>, Error> {
        let by = by.clone();
        let access = access.require(Permission::Configure)?;
        let home = access.home();
        let new = validated(new)?;
        let generated = GeneratedPassword::generate(new.len()).await?;
        let passwords: Vec<_> = generated.iter().map(|generated| generated.password.clone()).collect();
        let (now, accounts) = (self.clock.now(), self.accounts.clone());
        let service = self.clone();
        let notify = move |(devices, client_ids): (Vec<Device>, Vec<String>)| {
            service.accounts.wake();
            service.notify_registered(home, &devices);
            (devices, client_ids)
        };
        let (devices, client_ids) = db::transaction(&self.pool, move |conn| {
            Box::pin(async move {
                let (devices, client_ids) = insert(conn, access, &new, now).await?;
                let users = devices.iter().map(|device| (device.id, first_user(device)));
                accounts.insert(conn, users.zip(&generated).collect(), now).await?;
                let entries: Vec<_> = devices.iter().map(audit_entry).collect();
                audit::record(conn, &by, home, &entries).await?;
                Ok((devices, client_ids))
            })
        })
        .after_commit(notify)
        .await?;
        let registered = devices.into_iter().zip(client_ids).zip(passwords);
        Ok(registered.map(|((device, client_id), password)| self.registered(device, client_id, password)).collect())
    }

    fn notify_registered(&self, home: HomeId, devices: &[Device]) {
        match devices {
            [device] => self.listener.device_changed(home, device.id),
            _ => self.listener.home_changed(home),
        }
    }

    fn registered(&self, device: Device, client_id: String, password: Secret) -> RegisteredDevice {
        let username = first_user(&device).to_string();
        let broker_url = self.broker_url.to_string();
        let credentials = MqttCredentials { client_id, username, password, broker_url };
        RegisteredDevice { device, credentials }
    }
}

/// Inserts the devices and returns them in the order given, as the caller sees them, with their client ids.
async fn insert(
    conn: &mut db::Connection,
    access: Access,
    new: &[NewDevice],
    now: DateTime<Utc>,
) -> Result<(Vec<Device>, Vec<String>), Error> {
    let home = access.home();
    let home_key = registry_store::lock_home(conn, home).await?.ok_or(Error::NotFound("home"))?;
    let rooms: HashSet<_> = new.iter().filter_map(|device| device.room).collect();
    let rooms: Vec<_> = rooms.into_iter().collect();
    if !rooms.is_empty() && registry_store::count_rooms(conn, home, &rooms).await? != rooms.len() as i64 {
        return Err(Error::NotFound("room"));
    }
    if registry_store::count(conn, home).await? + new.len() as i64 > MAX_DEVICES_PER_HOME {
        return Err(Error::Conflict(format!("a home has at most {MAX_DEVICES_PER_HOME} devices")));
    }
    let client_ids: Vec<_> = new.iter().map(|device| new_client_id(&home_key, &device.key)).collect();
    let ids = registry_store::insert(conn, home, new, &client_ids, now).await.map_err(room_or_home_not_found)?;
    if ids.len() < new.len() {
        return Err(conflict(conn, home, new, &ids).await?);
    }
    let mut ids: HashMap<_, _> = ids.into_iter().collect();
    let ids: Vec<DeviceId> = new.iter().filter_map(|device| ids.remove(&device.key)).collect();
    let devices = store::by_ids(conn, access.user(), &ids, false, &MemoryBudget::default()).await?;
    let mut devices: HashMap<_, _> = devices.into_iter().map(|device| (device.id, device)).collect();
    // One is missing only where the caller's membership ended meanwhile.
    let in_order: Option<Vec<Device>> = ids.iter().map(|id| devices.remove(id)).collect();
    Ok((in_order.ok_or(Error::NotFound("home"))?, client_ids))
}

/// Why some of `new` were not inserted.
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

/// The user name of the device's first password.
fn first_user(device: &Device) -> MqttUser<'_> {
    MqttUser { home: &device.home_key, device: &device.key, slot: 0 }
}

fn audit_entry(device: &Device) -> Entry {
    let details = Details::of(&device.id)
        .with("key", &device.key)
        .with("name", &device.name)
        .with("type", device.kind.as_str())
        .with("macAddress", &device.mac)
        .with("roomId", room_text(device.room));
    Entry::new(Action::DeviceRegister, audited(device.id, &device.key), details)
}
