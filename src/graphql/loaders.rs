//! One loader for every edge of the graph. Each checks the viewer or takes a proof of access, so it loads
//! nothing that the viewer may not see.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use super::Services;
use super::loader::{Load, Loader};
use crate::commands::Command;
pub(super) use crate::commands::CommandPage;
use crate::db::MemoryBudget;
use crate::device_config::DeviceConfig;
use crate::devices::{
    self, AllDevicesPage, Counted, Device, DeviceAccess, DeviceFilter, DeviceRef, SortedDevice, SortedPage,
};
use crate::error::Error;
use crate::homes::{Access, Home, IntegrationToken, Invitation, Member, Room};
use crate::ids::{CommandId, DeviceId, HomeId, RoomId, UserId};
use crate::telemetry::Reading;
use crate::telemetry::history::{DeviceWithHistory, HistoryPage, LatestColumns};
use crate::users::{SessionInfo, User};

/// The arguments of a page of devices.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct DevicePage {
    pub(super) viewer: UserId,
    pub(super) filter: DeviceFilter,
    pub(super) after: Option<DeviceId>,
    pub(super) limit: i64,
    pub(super) columns: DevicePageColumns,
}

/// What a page of devices reads besides the devices.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct DevicePageColumns {
    /// Their states. Without their newest readings they are always read.
    pub(super) states: bool,
    /// Of their states: what they reported themselves to be.
    pub(super) reported: bool,
    /// More of them than ids, keys and names. Without their newest readings it is always read.
    pub(super) registration: bool,
    pub(super) latest: bool,
    /// Of the newest readings: firmware version, signal, battery, and values of other sensors.
    pub(super) health: bool,
}

/// A device of a page, and its newest reading if the page has read it.
#[derive(Clone)]
pub(super) struct ListedDevice {
    pub(super) device: Arc<Device>,
    pub(super) latest: Option<Option<Arc<Reading>>>,
}

/// Declares `Loaders`, and a type that implements `Load` for each field of it. The parameters of a loader are
/// what its keys have in common (`Load::Group`) and the keys.
macro_rules! loaders {
    (
        |$services:ident, $budget:ident|
        $(
            $(#[$doc:meta])*
            $field:ident: $loader:ident = |$group:ident: $Group:ty, $keys:ident: $Key:ty| -> $Value:ty $load:block
        )*
    ) => {
        pub(super) struct Loaders {
            $($(#[$doc])* pub(super) $field: Loader<$loader>,)*
        }

        impl Loaders {
            pub(super) fn new(services: &Services) -> Self {
                Self { $($field: Loader::new($loader(services.clone())),)* }
            }
        }

        $(
            pub(super) struct $loader(Services);

            impl Load for $loader {
                type Group = $Group;
                type Key = $Key;
                type Value = $Value;

                async fn load(
                    &self,
                    $budget: &MemoryBudget,
                    $group: &$Group,
                    $keys: Vec<$Key>,
                ) -> Result<HashMap<$Key, $Value>, Error> {
                    let ($services, _) = (&self.0, $budget);
                    Ok($load)
                }
            }
        )*
    };
}

loaders! {
    |services, budget|

    /// Users by id. The ids come only from memberships and from what users did in a home.
    users: UserById = |_viewer: UserId, ids: UserId| -> Arc<User> {
        by_key(services.users.by_ids(&ids).await?, |user| user.id)
    }

    /// The viewer's own sessions.
    sessions: SessionsOf = |viewer: UserId, users: UserId| -> Arc<[SessionInfo]> {
        let own: Vec<_> = users.into_iter().filter(|user| user == viewer).collect();
        lists(services.users.sessions(&own).await?)
    }

    /// Homes in which the viewer is a member, by id.
    homes: HomeById = |viewer: UserId, ids: HomeId| -> Arc<Home> {
        by_key(services.homes.visible(*viewer, Some(&ids)).await?, |home| home.id)
    }

    /// The homes that the viewer shares with a user.
    shared_homes: SharedHomes = |viewer: UserId, users: UserId| -> Arc<[Arc<Home>]> {
        let shared = services.homes.shared(*viewer, &users).await?;
        lists(shared.into_iter().map(|(user, home)| (user, Arc::new(home))))
    }

    members: MembersOf = |_viewer: UserId, homes: Access| -> Arc<[Member]> {
        let members = services.homes.members(&homes).await?;
        list_for_each(homes, |home| home.home(), members)
    }

    /// Invitations that were not accepted yet.
    invitations: InvitationsOf = |_viewer: UserId, homes: Access| -> Arc<[Invitation]> {
        let open = services.homes.invitations(&homes).await?;
        list_for_each(homes, |home| home.home(), open.into_iter().map(|invitation| (invitation.home, invitation)))
    }

    integrations: IntegrationsOf = |_viewer: UserId, homes: Access| -> Arc<[IntegrationToken]> {
        let tokens = services.integrations.of_homes(&homes).await?;
        list_for_each(homes, |home| home.home(), tokens.into_iter().map(|token| (token.home, token)))
    }

    rooms_of: RoomsOf = |_viewer: UserId, homes: Access| -> Arc<[Arc<Room>]> {
        let rooms = services.homes.rooms(&homes).await?;
        list_for_each(homes, |home| home.home(), rooms.into_iter().map(|room| (room.home, Arc::new(room))))
    }

    /// Rooms of the viewer's homes, by id.
    rooms: RoomById = |viewer: UserId, ids: RoomId| -> Arc<Room> {
        by_key(services.homes.visible_rooms(*viewer, &ids).await?, |room| room.id)
    }

    /// Devices of the viewer's homes by id, with what they reported if the flag is set.
    devices: DeviceById = |group: (UserId, bool), ids: DeviceId| -> Arc<Device> {
        let (viewer, with_reported) = *group;
        by_key(services.devices.by_ids(viewer, &ids, with_reported, budget).await?, |device| device.id)
    }

    /// Devices of the viewer's homes by id, without their states, each with a page of its readings. Only the query `device`
    /// asks for them, so there is one.
    devices_with_history: DeviceWithHistoryById = |group: (UserId, HistoryPage), ids: DeviceId| -> DeviceWithHistory {
        let mut found = HashMap::new();
        for id in ids {
            if let Some(device) = services.readings.device_with_history(group.0, id, &group.1, budget).await? {
                found.insert(id, device);
            }
        }
        found
    }

    /// Devices of the viewer's homes, by their key or MAC address.
    named_devices: DeviceByName = |viewer: UserId, names: (HomeId, DeviceRef)| -> Arc<Device> {
        let found = services.devices.by_names(*viewer, &names, budget).await?;
        let found: Vec<_> = found.into_iter().map(Arc::new).collect();
        let of = |(home, name): &(HomeId, DeviceRef)| {
            found.iter().find(|device| device.home == *home && device.has_name(name)).cloned()
        };
        names.into_iter().filter_map(|name| of(&name).map(|device| (name, device))).collect()
    }

    /// Devices of rooms, with what they reported if the flag is set.
    devices_in: DevicesIn = |group: (UserId, bool), rooms: RoomId| -> Arc<[Arc<Device>]> {
        let (viewer, with_reported) = *group;
        let devices = services.devices.by_rooms(viewer, &rooms, with_reported, budget).await?;
        lists(devices.into_iter().filter_map(|device| Some((device.room?, Arc::new(device)))))
    }

    /// The number of devices in a home.
    device_counts: DeviceCounts = |group: (UserId, Counted), homes: Access| -> i64 {
        let (viewer, counted) = *group;
        let counts = services.devices.counts_of_homes(viewer, &homes, counted).await?;
        homes.into_iter().map(|access| (access, counts.get(&access.home()).copied().unwrap_or_default())).collect()
    }

    /// The number of devices in a room.
    room_counts: RoomCounts = |group: (UserId, Counted), rooms: RoomId| -> i64 {
        let (viewer, counted) = *group;
        services.devices.counts_of_rooms(viewer, &rooms, counted).await?
    }

    /// Pages of a home's devices.
    device_pages: DevicePages = |page: DevicePage, homes: HomeId| -> Arc<[ListedDevice]> {
        let DevicePageColumns { states, reported, registration, latest, health } = page.columns;
        let of_homes = devices::DevicePage {
            homes: &homes,
            filter: &page.filter,
            after: page.after,
            limit: page.limit,
            with_reported: reported,
        };
        if latest {
            let columns = LatestColumns { states, registration, health };
            let devices = services.readings.page_with_latest(page.viewer, &of_homes, columns, budget).await?;
            lists(devices.into_iter().map(|(device, latest)| {
                (device.home, ListedDevice { device, latest: Some(latest) })
            }))
        } else {
            let devices = services.devices.page(page.viewer, &of_homes, budget).await?;
            lists(devices.into_iter().map(|device| {
                (device.home, ListedDevice { device: Arc::new(device), latest: None })
            }))
        }
    }

    /// Pages of a home's devices in another order.
    sorted_devices: SortedDevices = |page: (UserId, SortedPage), homes: HomeId| -> Arc<[SortedDevice]> {
        lists(services.devices.sorted(page.0, &page.1, &homes).await?)
    }

    /// Pages of the devices of all homes of a viewer.
    all_devices: AllDevices = |page: AllDevicesPage, viewers: UserId| -> Arc<[Arc<Device>]> {
        let mut pages = Vec::new();
        for viewer in viewers {
            let devices = services.devices.page_of_all(viewer, page, budget).await?;
            pages.extend(devices.into_iter().map(|device| (viewer, Arc::new(device))));
        }
        lists(pages)
    }

    /// The newest reading of a device.
    latest: Latest = |_viewer: UserId, devices: DeviceAccess| -> Arc<Reading> {
        let readings = services.readings.latest(&devices, budget).await?;
        one_for_each(devices, |device| device.device(), by_key(readings, |reading| reading.device))
    }

    /// Pages of a device's readings.
    history: History = |group: (UserId, HistoryPage), devices: DeviceAccess| -> Arc<[Arc<Reading>]> {
        let readings = services.readings.history(&devices, &group.1, budget).await?;
        let readings = readings.into_iter().map(|reading| (reading.device, reading));
        list_for_each(devices, |device| device.device(), readings)
    }

    /// Commands to devices of the viewer's homes, by id.
    commands: CommandById = |viewer: UserId, ids: CommandId| -> Arc<Command> {
        by_key(services.commands.by_ids(*viewer, &ids).await?, |command| command.id)
    }

    /// Pages of the commands to a device.
    command_pages: CommandPages = |group: (UserId, CommandPage), devices: DeviceAccess| -> Arc<[Arc<Command>]> {
        let commands = services.commands.page(&devices, &group.1, budget).await?;
        let commands = commands.into_iter().map(|command| (command.device, Arc::new(command)));
        list_for_each(devices, |device| device.device(), commands)
    }

    /// The newest configuration of a device.
    config: NewestConfig = |_viewer: UserId, devices: DeviceAccess| -> Arc<DeviceConfig> {
        let configs = services.configs.newest(&devices, budget).await?;
        one_for_each(devices, |device| device.device(), by_key(configs, |config| config.device))
    }

    /// Bytes of readings that a device has stored today.
    stored_today: StoredToday = |_viewer: UserId, devices: DeviceAccess| -> i64 {
        services.devices.stored_today(devices).await?
    }

    /// Pages of a device's configurations: the newest versions before one, up to a limit.
    config_pages: ConfigPages =
        |page: (UserId, Option<i32>, i64), devices: DeviceAccess| -> Arc<[Arc<DeviceConfig>]> {
        let (_viewer, before, limit) = *page;
        let configs = services.configs.history(&devices, before, limit, budget).await?;
        let configs = configs.into_iter().map(|config| (config.device, Arc::new(config)));
        list_for_each(devices, |device| device.device(), configs)
    }
}

fn by_key<K: Eq + Hash, V>(rows: Vec<V>, key: impl Fn(&V) -> K) -> HashMap<K, Arc<V>> {
    rows.into_iter().map(|row| (key(&row), Arc::new(row))).collect()
}

fn grouped<K: Eq + Hash, V>(rows: impl IntoIterator<Item = (K, V)>) -> HashMap<K, Vec<V>> {
    let mut groups = HashMap::<K, Vec<V>>::new();
    for (key, row) in rows {
        groups.entry(key).or_default().push(row);
    }
    groups
}

/// Rows as lists by their key, in their order.
fn lists<K: Eq + Hash, V>(rows: impl IntoIterator<Item = (K, V)>) -> HashMap<K, Arc<[V]>> {
    grouped(rows).into_iter().map(|(key, list)| (key, list.into())).collect()
}

/// A list for each proof of access, empty where there are no rows.
fn list_for_each<A: Eq + Hash, K: Eq + Hash, V>(
    accesses: Vec<A>,
    key: impl Fn(&A) -> K,
    rows: impl IntoIterator<Item = (K, V)>,
) -> HashMap<A, Arc<[V]>> {
    let mut lists = grouped(rows);
    let list = |access: A| {
        let list = lists.remove(&key(&access)).unwrap_or_default();
        (access, list.into())
    };
    accesses.into_iter().map(list).collect()
}

/// The row for each proof of access that has one.
fn one_for_each<A: Eq + Hash, K: Eq + Hash, V>(
    accesses: Vec<A>,
    key: impl Fn(&A) -> K,
    mut rows: HashMap<K, V>,
) -> HashMap<A, V> {
    accesses.into_iter().filter_map(|access| rows.remove(&key(&access)).map(|row| (access, row))).collect()
}
