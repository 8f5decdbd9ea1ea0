//! One loader for every edge of the graph. Each joins or takes the viewer, so nothing is read for
//! somebody that they may not see.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use super::Services;
use super::loader::{Load, Loader};
pub(super) use crate::commands::CommandPage;
use crate::commands::{Command, Commands};
use crate::db::MemoryBudget;
use crate::device_config::{DeviceConfig, DeviceConfigs};
use crate::devices::{Device, DeviceAccess, DeviceFilter, Devices};
use crate::error::Error;
use crate::homes::{Access, Home, Homes, IntegrationToken, Integrations, Invitation, Member, Room};
use crate::ids::{CommandId, DeviceId, HomeId, RoomId, UserId};
use crate::telemetry::Reading;
use crate::telemetry::history::{HistoryPage, Readings};
use crate::users::{SessionInfo, User, Users};

type Loaded<K, V> = Result<HashMap<K, V>, Error>;

/// All loaders of a schema.
pub(super) struct Loaders {
    pub(super) users: Loader<UserById>,
    pub(super) sessions: Loader<SessionsOf>,
    pub(super) homes: Loader<HomeById>,
    pub(super) shared_homes: Loader<SharedHomes>,
    pub(super) members: Loader<MembersOf>,
    pub(super) invitations: Loader<InvitationsOf>,
    pub(super) integrations: Loader<IntegrationsOf>,
    pub(super) rooms_of: Loader<RoomsOf>,
    pub(super) rooms: Loader<RoomById>,
    pub(super) devices: Loader<DeviceById>,
    pub(super) devices_in: Loader<DevicesIn>,
    pub(super) device_pages: Loader<DevicePages>,
    pub(super) latest: Loader<Latest>,
    pub(super) history: Loader<History>,
    pub(super) commands: Loader<CommandById>,
    pub(super) command_pages: Loader<CommandPages>,
    pub(super) config: Loader<NewestConfig>,
    pub(super) config_pages: Loader<ConfigPages>,
}

impl Loaders {
    pub(super) fn new(services: &Services) -> Self {
        let (homes, devices, readings) = (services.homes.clone(), services.devices.clone(), services.readings.clone());
        Self {
            users: Loader::new(UserById(services.users.clone())),
            sessions: Loader::new(SessionsOf(services.users.clone())),
            homes: Loader::new(HomeById(homes.clone())),
            shared_homes: Loader::new(SharedHomes(homes.clone())),
            members: Loader::new(MembersOf(homes.clone())),
            invitations: Loader::new(InvitationsOf(homes.clone())),
            integrations: Loader::new(IntegrationsOf(services.integrations.clone())),
            rooms_of: Loader::new(RoomsOf(homes.clone())),
            rooms: Loader::new(RoomById(homes)),
            devices: Loader::new(DeviceById(devices.clone())),
            devices_in: Loader::new(DevicesIn(devices.clone())),
            device_pages: Loader::new(DevicePages(devices)),
            latest: Loader::new(Latest(readings.clone())),
            history: Loader::new(History(readings)),
            commands: Loader::new(CommandById(services.commands.clone())),
            command_pages: Loader::new(CommandPages(services.commands.clone())),
            config: Loader::new(NewestConfig(services.configs.clone())),
            config_pages: Loader::new(ConfigPages(services.configs.clone())),
        }
    }
}

/// Rows by what they belong to, in their order.
fn grouped<K: Eq + Hash, V>(rows: impl IntoIterator<Item = (K, V)>) -> HashMap<K, Vec<V>> {
    let mut groups = HashMap::<K, Vec<V>>::new();
    for (key, row) in rows {
        groups.entry(key).or_default().push(row);
    }
    groups
}

fn shared<K, V>((key, list): (K, Vec<V>)) -> (K, Arc<[V]>) {
    (key, list.into())
}

/// A member of one of the viewer's homes, or who was one; ids come out of memberships, and out of what was
/// done in a home, alone.
pub(super) struct UserById(Users);

impl Load for UserById {
    type Group = UserId;
    type Key = UserId;
    type Value = Arc<User>;

    async fn load(&self, _held: &MemoryBudget, _viewer: &UserId, ids: Vec<UserId>) -> Loaded<UserId, Arc<User>> {
        Ok(self.0.by_ids(&ids).await?.into_iter().map(|user| (user.id, Arc::new(user))).collect())
    }
}

/// The viewer's own sessions.
pub(super) struct SessionsOf(Users);

impl Load for SessionsOf {
    type Group = UserId;
    type Key = UserId;
    type Value = Arc<[SessionInfo]>;

    async fn load(&self, _held: &MemoryBudget, viewer: &UserId, users: Vec<UserId>) -> Loaded<UserId, Self::Value> {
        let own: Vec<_> = users.into_iter().filter(|user| user == viewer).collect();
        Ok(grouped(self.0.sessions(&own).await?).into_iter().map(shared).collect())
    }
}

/// A home the viewer is a member of.
pub(super) struct HomeById(Homes);

impl Load for HomeById {
    type Group = UserId;
    type Key = HomeId;
    type Value = Arc<Home>;

    async fn load(&self, _held: &MemoryBudget, viewer: &UserId, ids: Vec<HomeId>) -> Loaded<HomeId, Arc<Home>> {
        Ok(self.0.visible(*viewer, Some(&ids)).await?.into_iter().map(|home| (home.id, Arc::new(home))).collect())
    }
}

/// The homes the viewer shares with a user.
pub(super) struct SharedHomes(Homes);

impl Load for SharedHomes {
    type Group = UserId;
    type Key = UserId;
    type Value = Arc<[Arc<Home>]>;

    async fn load(&self, _held: &MemoryBudget, viewer: &UserId, users: Vec<UserId>) -> Loaded<UserId, Self::Value> {
        let rows = self.0.shared(*viewer, &users).await?;
        let rows = rows.into_iter().map(|(user, home)| (user, Arc::new(home)));
        Ok(grouped(rows).into_iter().map(shared).collect())
    }
}

/// The members of a home.
pub(super) struct MembersOf(Homes);

impl Load for MembersOf {
    type Group = UserId;
    type Key = Access;
    type Value = Arc<[Member]>;

    async fn load(&self, _held: &MemoryBudget, _viewer: &UserId, homes: Vec<Access>) -> Loaded<Access, Self::Value> {
        let mut members = grouped(self.0.members(&homes).await?);
        Ok(homes.into_iter().map(|home| (home, members.remove(&home.home()).unwrap_or_default().into())).collect())
    }
}

/// The open invitations of a home.
pub(super) struct InvitationsOf(Homes);

impl Load for InvitationsOf {
    type Group = UserId;
    type Key = Access;
    type Value = Arc<[Invitation]>;

    async fn load(&self, _held: &MemoryBudget, _viewer: &UserId, homes: Vec<Access>) -> Loaded<Access, Self::Value> {
        let open = self.0.invitations(&homes).await?;
        let mut open = grouped(open.into_iter().map(|invitation| (invitation.home, invitation)));
        Ok(homes.into_iter().map(|home| (home, open.remove(&home.home()).unwrap_or_default().into())).collect())
    }
}

/// The tokens of a home's integrations.
pub(super) struct IntegrationsOf(Integrations);

impl Load for IntegrationsOf {
    type Group = UserId;
    type Key = Access;
    type Value = Arc<[IntegrationToken]>;

    async fn load(&self, _held: &MemoryBudget, _viewer: &UserId, homes: Vec<Access>) -> Loaded<Access, Self::Value> {
        let live = self.0.of_homes(&homes).await?;
        let mut live = grouped(live.into_iter().map(|token| (token.home, token)));
        Ok(homes.into_iter().map(|home| (home, live.remove(&home.home()).unwrap_or_default().into())).collect())
    }
}

/// The rooms of a home.
pub(super) struct RoomsOf(Homes);

impl Load for RoomsOf {
    type Group = UserId;
    type Key = Access;
    type Value = Arc<[Arc<Room>]>;

    async fn load(&self, _held: &MemoryBudget, _viewer: &UserId, homes: Vec<Access>) -> Loaded<Access, Self::Value> {
        let rooms = self.0.rooms(&homes).await?;
        let mut rooms = grouped(rooms.into_iter().map(|room| (room.home, Arc::new(room))));
        Ok(homes.into_iter().map(|home| (home, rooms.remove(&home.home()).unwrap_or_default().into())).collect())
    }
}

/// A room of one of the viewer's homes.
pub(super) struct RoomById(Homes);

impl Load for RoomById {
    type Group = UserId;
    type Key = RoomId;
    type Value = Arc<Room>;

    async fn load(&self, _held: &MemoryBudget, viewer: &UserId, ids: Vec<RoomId>) -> Loaded<RoomId, Arc<Room>> {
        let rooms = self.0.visible_rooms(*viewer, &ids).await?;
        Ok(rooms.into_iter().map(|room| (room.id, Arc::new(room))).collect())
    }
}

/// A device of one of the viewer's homes.
pub(super) struct DeviceById(Devices);

impl Load for DeviceById {
    type Group = UserId;
    type Key = DeviceId;
    type Value = Arc<Device>;

    async fn load(&self, held: &MemoryBudget, viewer: &UserId, ids: Vec<DeviceId>) -> Loaded<DeviceId, Arc<Device>> {
        let devices = self.0.by_ids(*viewer, &ids, held).await?;
        Ok(devices.into_iter().map(|device| (device.id, Arc::new(device))).collect())
    }
}

/// The devices in a room.
pub(super) struct DevicesIn(Devices);

impl Load for DevicesIn {
    type Group = UserId;
    type Key = RoomId;
    type Value = Arc<[Arc<Device>]>;

    async fn load(&self, held: &MemoryBudget, viewer: &UserId, rooms: Vec<RoomId>) -> Loaded<RoomId, Self::Value> {
        let devices = self.0.by_rooms(*viewer, &rooms, held).await?;
        let rows = devices.into_iter().filter_map(|device| Some((device.room?, Arc::new(device))));
        Ok(grouped(rows).into_iter().map(shared).collect())
    }
}

/// What the pages of one statement have in common.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct DevicePage {
    pub(super) viewer: UserId,
    pub(super) filter: DeviceFilter,
    pub(super) after: Option<DeviceId>,
    pub(super) limit: i64,
}

/// A page of a home's devices.
pub(super) struct DevicePages(Devices);

impl Load for DevicePages {
    type Group = DevicePage;
    type Key = HomeId;
    type Value = Arc<[Arc<Device>]>;

    async fn load(&self, held: &MemoryBudget, page: &DevicePage, homes: Vec<HomeId>) -> Loaded<HomeId, Self::Value> {
        let devices = self.0.page(page.viewer, &homes, &page.filter, page.after, page.limit, held).await?;
        let rows = devices.into_iter().map(|device| (device.home, Arc::new(device)));
        Ok(grouped(rows).into_iter().map(shared).collect())
    }
}

/// A device's newest reading.
pub(super) struct Latest(Readings);

impl Load for Latest {
    type Group = UserId;
    type Key = DeviceAccess;
    type Value = Arc<Reading>;

    async fn load(
        &self,
        held: &MemoryBudget,
        _viewer: &UserId,
        devices: Vec<DeviceAccess>,
    ) -> Loaded<DeviceAccess, Arc<Reading>> {
        let readings = self.0.latest(&devices, held).await?;
        let mut readings: HashMap<_, _> =
            readings.into_iter().map(|reading| (reading.device, Arc::new(reading))).collect();
        let found = devices.into_iter().filter_map(|device| Some((device, readings.remove(&device.device())?)));
        Ok(found.collect())
    }
}

/// A page of a device's history.
pub(super) struct History(Readings);

impl Load for History {
    type Group = (UserId, HistoryPage);
    type Key = DeviceAccess;
    type Value = Arc<[Arc<Reading>]>;

    async fn load(
        &self,
        held: &MemoryBudget,
        (_viewer, page): &(UserId, HistoryPage),
        devices: Vec<DeviceAccess>,
    ) -> Loaded<DeviceAccess, Self::Value> {
        let readings = self.0.history(&devices, page, held).await?;
        let mut readings = grouped(readings.into_iter().map(|reading| (reading.device, Arc::new(reading))));
        let found = devices.into_iter().map(|device| {
            let page = readings.remove(&device.device()).unwrap_or_default();
            (device, page.into())
        });
        Ok(found.collect())
    }
}

/// A command to a device of one of the viewer's homes.
pub(super) struct CommandById(Commands);

impl Load for CommandById {
    type Group = UserId;
    type Key = CommandId;
    type Value = Arc<Command>;

    async fn load(
        &self,
        _held: &MemoryBudget,
        viewer: &UserId,
        ids: Vec<CommandId>,
    ) -> Loaded<CommandId, Arc<Command>> {
        let commands = self.0.by_ids(*viewer, &ids).await?;
        Ok(commands.into_iter().map(|command| (command.id, Arc::new(command))).collect())
    }
}

/// A page of a device's commands.
pub(super) struct CommandPages(Commands);

impl Load for CommandPages {
    type Group = (UserId, CommandPage);
    type Key = DeviceAccess;
    type Value = Arc<[Arc<Command>]>;

    async fn load(
        &self,
        held: &MemoryBudget,
        (_viewer, page): &(UserId, CommandPage),
        devices: Vec<DeviceAccess>,
    ) -> Loaded<DeviceAccess, Self::Value> {
        let commands = self.0.page(&devices, page, held).await?;
        let mut commands = grouped(commands.into_iter().map(|command| (command.device, Arc::new(command))));
        let found = devices.into_iter().map(|device| {
            let page = commands.remove(&device.device()).unwrap_or_default();
            (device, page.into())
        });
        Ok(found.collect())
    }
}

/// A device's newest configuration.
pub(super) struct NewestConfig(DeviceConfigs);

impl Load for NewestConfig {
    type Group = UserId;
    type Key = DeviceAccess;
    type Value = Arc<DeviceConfig>;

    async fn load(
        &self,
        held: &MemoryBudget,
        _viewer: &UserId,
        devices: Vec<DeviceAccess>,
    ) -> Loaded<DeviceAccess, Self::Value> {
        let configs = self.0.newest(&devices, held).await?;
        let mut configs: HashMap<_, _> = configs.into_iter().map(|config| (config.device, Arc::new(config))).collect();
        Ok(devices.into_iter().filter_map(|device| Some((device, configs.remove(&device.device())?))).collect())
    }
}

/// A page of a device's configurations: before a version, so many.
pub(super) struct ConfigPages(DeviceConfigs);

impl Load for ConfigPages {
    type Group = (UserId, Option<i32>, i64);
    type Key = DeviceAccess;
    type Value = Arc<[Arc<DeviceConfig>]>;

    async fn load(
        &self,
        held: &MemoryBudget,
        (_viewer, before, limit): &Self::Group,
        devices: Vec<DeviceAccess>,
    ) -> Loaded<DeviceAccess, Self::Value> {
        let configs = self.0.history(&devices, *before, *limit, held).await?;
        let mut configs = grouped(configs.into_iter().map(|config| (config.device, Arc::new(config))));
        let found = devices.into_iter().map(|device| {
            let page = configs.remove(&device.device()).unwrap_or_default();
            (device, page.into())
        });
        Ok(found.collect())
    }
}
