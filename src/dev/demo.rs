//! The demo home with an owner, rooms and devices. It is created once; later changes by its owner stay.

use std::time::Duration;

use anyhow::Context;
use serde::{Deserialize, Serialize};

use super::folder::Folder;
use crate::app::{Base, Hubs};
use crate::audit::RequestContext;
use crate::auth::{Actor, Principal, Tokens};
use crate::clock::Clock;
use crate::db::{MemoryBudget, Pool};
use crate::devices::{DeviceFilter, DevicePage, DeviceType, NewDevice, former_client_id};
use crate::error::Error;
use crate::graphql::Services;
use crate::homes::{Home, NewHome, Permission};
use crate::ids::{DeviceId, HomeId, UserId};
use crate::settings::{Secret, Settings};
use crate::throttle::Throttle;

/// The account that owns the demo home.
pub(super) const EMAIL: &str = "demo@smarthome.local";
/// Long enough to use the token in scripts.
const TOKEN_LIFE: Duration = Duration::from_secs(30 * 24 * 3600);
const PASSWORD_FILE: &str = "demo-password";
/// Passwords of the demo's devices, in the form that `simulate --devices-file` reads.
const CREDENTIALS_FILE: &str = "devices.json";
/// Devices that are read at once.
const PAGE: i64 = 500;
/// Devices for the user to publish as; they are not simulated.
const UNSIMULATED: [(&str, &str, DeviceType, Option<&str>); 2] = [
    ("ESP32_001", "Sensor board", DeviceType::SensorNode, Some("Living room")),
    ("TEST_DEVICE", "Test device", DeviceType::SensorNode, None),
];
/// The first devices of the simulation.
const SIMULATED: [(&str, &str, DeviceType, Option<&str>); 4] = [
    ("THERMO_001", "Thermostat", DeviceType::Thermostat, Some("Living room")),
    ("LAMP_001", "Ceiling lamp", DeviceType::Light, Some("Kitchen")),
    ("METER_001", "Power meter", DeviceType::PowerMeter, Some("Hall")),
    ("DOOR_001", "Front door", DeviceType::Door, Some("Hall")),
];

/// Creates the demo home before the server starts.
pub(super) struct Setup {
    services: Services,
    tokens: Tokens,
}

/// The present demo home.
pub(super) struct Demo {
    pub(super) password: Secret,
    pub(super) token: String,
    pub(super) home: HomeId,
    pub(super) home_key: String,
    pub(super) devices: Vec<(DeviceId, String)>,
    pub(super) simulated: Vec<String>,
    pub(super) credentials: Vec<DeviceLogin>,
}

/// One device's account at the broker.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct DeviceLogin {
    pub(super) key: String,
    pub(super) username: String,
    pub(super) password: String,
    /// Absent in the file of an older version.
    #[serde(default)]
    pub(super) client_id: String,
}

impl Setup {
    /// Services with a small pool of their own.
    pub(super) fn new(pool: Pool, clock: Clock, settings: &Settings) -> anyhow::Result<Self> {
        let base = Base { pool, throttle: Throttle::new(false), ..Base::new(settings, clock)? };
        let services = Services::build(&base, &Hubs::new(&base.metrics), settings);
        Ok(Self { services, tokens: base.tokens })
    }

    /// Creates what is missing, including `n_simulated` devices for the simulation.
    pub(super) async fn prepare(&self, folder: &Folder, n_simulated: usize) -> anyhow::Result<Demo> {
        let password = folder.secret(PASSWORD_FILE)?;
        let user = self.owner(&password).await.context("the demo's owner")?;
        let (token, expires_at) = self.tokens.issue(user, Actor::Operator, TOKEN_LIFE);
        let issued_at = expires_at - TOKEN_LIFE;
        let principal = Principal { user, actor: Actor::Operator, issued_at, expires_at };
        let home = self.home(&principal).await.context("the demo home")?;

        let simulated = simulated_keys(n_simulated);
        let mut credentials: Vec<DeviceLogin> = folder.read_json(CREDENTIALS_FILE).unwrap_or_default();
        for login in credentials.iter_mut().filter(|login| login.client_id.is_empty()) {
            login.client_id = former_client_id(&home.key, &login.key);
        }
        let new = self.register_missing(&principal, &home, &simulated).await.context("the demo's devices")?;
        if !new.is_empty() {
            credentials.retain(|known| new.iter().all(|login| login.username != known.username));
            credentials.extend(new);
            folder.write_json(CREDENTIALS_FILE, &credentials)?;
        }
        let devices = self.listed(user, home.id).await?;
        Ok(Demo { password, token, home: home.id, home_key: home.key, devices, simulated, credentials })
    }

    /// The account; its password is reset to the one that `dev` prints.
    async fn owner(&self, password: &Secret) -> Result<UserId, Error> {
        match self.services.users.login(EMAIL, password.reveal(), None).await {
            Ok(session) => return Ok(session.user.id),
            Err(Error::Unauthenticated(..)) => {}
            Err(error) => return Err(error),
        }
        match self.services.users.create(EMAIL, password.reveal(), "Demo").await {
            Ok(user) => Ok(user.id),
            Err(Error::Conflict(_)) => {
                self.services.users.set_password(EMAIL, password.reveal()).await?;
                Ok(self.services.users.login(EMAIL, password.reveal(), None).await?.user.id)
            }
            Err(error) => Err(error),
        }
    }

    async fn home(&self, principal: &Principal) -> Result<Home, Error> {
        if let Some(home) = self.services.homes.visible(principal.user, None).await?.into_iter().next() {
            return Ok(home);
        }
        let new = NewHome { name: "Demo home".to_owned(), key: None, timezone: "UTC".to_owned() };
        let by = RequestContext::new(principal, None);
        let home = self.services.homes.create(&by, new).await?;
        let access = home.allow(Permission::Configure)?;
        for name in ["Living room", "Kitchen", "Hall"] {
            self.services.homes.create_room(access, &by, name).await?;
        }
        Ok(home)
    }

    async fn register_missing(
        &self,
        principal: &Principal,
        home: &Home,
        simulated: &[String],
    ) -> Result<Vec<DeviceLogin>, Error> {
        let listed = self.listed(principal.user, home.id).await?;
        let access = home.allow(Permission::Configure)?;
        let rooms = self.services.homes.rooms(&[home.allow(Permission::Read)?]).await?;
        let room = |name: Option<&str>| rooms.iter().find(|room| Some(room.name.as_str()) == name).map(|room| room.id);
        // In a home that already has devices, those that its owner deleted are not created again.
        let unsimulated = if listed.is_empty() { &UNSIMULATED[..] } else { &[] };
        let known = UNSIMULATED.iter().chain(&SIMULATED);
        let mut wanted: Vec<NewDevice> = Vec::new();
        for key in unsimulated.iter().map(|(key, ..)| *key).chain(simulated.iter().map(String::as_str)) {
            if listed.iter().any(|(_, listed)| listed == key) {
                continue;
            }
            let known = known.clone().find(|(known, ..)| *known == key);
            let (name, kind, place) =
                known.map_or((key, DeviceType::SensorNode, None), |(_, name, kind, place)| (*name, *kind, *place));
            let (key, name) = (key.to_owned(), name.to_owned());
            wanted.push(NewDevice { key, name, kind, mac: None, room: room(place) });
        }
        if wanted.is_empty() {
            return Ok(Vec::new());
        }
        let registered = self.services.devices.register(access, &RequestContext::new(principal, None), wanted).await?;
        let login = |device: crate::devices::RegisteredDevice| DeviceLogin {
            key: device.device.key,
            username: device.credentials.username,
            password: device.credentials.password.reveal().to_owned(),
            client_id: device.credentials.client_id,
        };
        Ok(registered.into_iter().map(login).collect())
    }

    async fn listed(&self, viewer: UserId, home: HomeId) -> Result<Vec<(DeviceId, String)>, Error> {
        let all = DeviceFilter::default();
        let mut listed: Vec<(DeviceId, String)> = Vec::new();
        loop {
            let after = listed.last().map(|(id, _)| *id);
            let page = DevicePage { homes: &[home], filter: &all, after, limit: PAGE, with_reported: false };
            let devices = self.services.devices.page(viewer, &page, &MemoryBudget::default()).await?;
            let is_last = i64::try_from(devices.len()) != Ok(PAGE);
            listed.extend(devices.into_iter().map(|device| (device.id, device.key)));
            if is_last {
                return Ok(listed);
            }
        }
    }
}

/// The named ones first, then as many more as needed.
fn simulated_keys(n: usize) -> Vec<String> {
    let known = SIMULATED.iter().map(|(key, ..)| (*key).to_owned());
    let more = (SIMULATED.len() + 1..).map(|number| format!("SIM_{number:03}"));
    known.chain(more).take(n).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_users_devices_are_not_simulated() {
        let keys = simulated_keys(6);
        assert_eq!(keys, ["THERMO_001", "LAMP_001", "METER_001", "DOOR_001", "SIM_005", "SIM_006"]);
        assert!(UNSIMULATED.iter().all(|(key, ..)| keys.iter().all(|simulated| simulated != key)));
        assert!(simulated_keys(0).is_empty());
    }
}
