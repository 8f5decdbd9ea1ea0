//! SQL for reading devices. Each statement joins the viewer's membership, so it returns only devices that the viewer
//! sees, and the device's state, so a list costs one statement.

use chrono::{DateTime, Utc};
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::query_builder::AstPass;
use diesel::sql_types::{Array, BigInt, Bool, Double, Integer, Jsonb, Nullable, Text, Timestamptz};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use super::DeviceType;
use super::device::{Device, LastState, Reported, StateJson};
use crate::db::{JsonText, MemoryBudget, Parameters, collect_bounded, statement};
use crate::error::Error;
use crate::homes::{Membership, MembershipColumns};
use crate::ids::{DeviceId, HomeId, RoomId, UserId};

/// Which devices a page holds; the same for all homes of one statement.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct DeviceFilter {
    pub room: Option<RoomId>,
    /// One of these types.
    pub kinds: Option<Vec<DeviceType>>,
    pub online: Option<bool>,
    /// The battery has less than so many percent.
    pub battery_below: Option<i32>,
    /// The last message came before then, or none has come.
    pub last_seen_before: Option<DateTime<Utc>>,
    /// Part of the name, key or MAC address, in any case.
    pub search: Option<String>,
}

impl DeviceFilter {
    /// Whether some device may not match.
    pub(crate) fn is_filtered(&self) -> bool {
        *self != Self::default()
    }
}

/// Those of the function `filtered_devices`.
impl Parameters for DeviceFilter {
    const NAMES: &'static [&'static str] =
        &["is_filtered", "room", "kinds", "online", "battery_below", "last_seen_before", "search"];

    fn bind<'b>(&'b self, index: usize, out: &mut AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        match index {
            0 => out.push_bind_param::<Bool, _>(if self.is_filtered() { &true } else { &false }),
            1 => out.push_bind_param::<Nullable<BigInt>, _>(&self.room),
            2 => out.push_bind_param::<Nullable<Array<Text>>, _>(&self.kinds),
            3 => out.push_bind_param::<Nullable<Bool>, _>(&self.online),
            4 => out.push_bind_param::<Nullable<Integer>, _>(&self.battery_below),
            5 => out.push_bind_param::<Nullable<Timestamptz>, _>(&self.last_seen_before),
            6 => out.push_bind_param::<Nullable<Text>, _>(&self.search),
            _ => unreachable!("the filter has as many parameters as names"),
        }
    }
}

/// A page of the devices of each of some homes.
#[derive(Debug, Clone, Copy)]
pub struct DevicePage<'a> {
    pub homes: &'a [HomeId],
    pub filter: &'a DeviceFilter,
    /// The page begins behind this device.
    pub after: Option<DeviceId>,
    /// Devices of each home.
    pub limit: i64,
    /// Whether the states that the devices reported are read.
    pub with_reported: bool,
}

/// The columns that each statement of this file selects.
pub(crate) type Columns = (RegistrationColumns, StateColumns, SegmentColumns, MembershipColumns);
pub(crate) type RegistrationColumns =
    (BigInt, BigInt, Text, Text, Text, Nullable<Text>, Text, Nullable<BigInt>, Timestamptz);
type StateColumns = (
    Bool,
    Nullable<Timestamptz>,
    Nullable<Timestamptz>,
    Nullable<Text>,
    Nullable<Double>,
    Nullable<Double>,
    Jsonb,
    Nullable<Jsonb>,
    Nullable<Timestamptz>,
    BigInt,
    Nullable<Timestamptz>,
);
pub(super) type SegmentColumns = (Nullable<Text>, Nullable<Text>);

pub(crate) type Row = (Registration, State, (Option<String>, Option<String>), Membership);

#[derive(Debug, Clone, PartialEq, Queryable)]
pub(crate) struct Registration {
    pub(super) id: DeviceId,
    pub(super) home: HomeId,
    pub(super) home_key: String,
    pub(super) key: String,
    pub(super) name: String,
    pub(super) mac: Option<String>,
    pub(super) kind: DeviceType,
    pub(super) room: Option<RoomId>,
    pub(super) created_at: DateTime<Utc>,
}

#[derive(Queryable)]
pub(crate) struct State {
    online: bool,
    online_changed_at: Option<DateTime<Utc>>,
    last_seen_at: Option<DateTime<Utc>>,
    firmware_version: Option<String>,
    signal_strength: Option<f64>,
    battery_level: Option<f64>,
    metadata: JsonText,
    reported: Option<JsonText>,
    reported_at: Option<DateTime<Utc>>,
    shed_messages: i64,
    last_shed_at: Option<DateTime<Utc>>,
}

pub(crate) fn device((registration, state, segments, membership): Row) -> QueryResult<Device> {
    let state = LastState {
        online: state.online,
        online_changed_at: state.online_changed_at,
        last_seen_at: state.last_seen_at,
        firmware_version: state.firmware_version,
        signal_strength: state.signal_strength,
        battery_level: state.battery_level,
        shed_messages: state.shed_messages,
        last_shed_at: state.last_shed_at,
        metadata: StateJson::Stored(state.metadata),
        reported: Reported::read(state.reported.map(StateJson::Stored), state.reported_at),
    };
    Ok(Device { state, ..registered(registration, segments, membership) })
}

/// A device without its state and the topic that it uses, for a selection that needs neither.
pub(crate) fn registration(registration: Registration, membership: Membership) -> Device {
    registered(registration, (None, None), membership)
}

/// A device of which only its ids and names were read, for a selection that needs no more.
pub(crate) fn names(id: DeviceId, key: String, name: String, membership: Membership) -> Device {
    let (home_key, mac, kind, room, created_at) = (String::new(), None, DeviceType::Other, None, DateTime::UNIX_EPOCH);
    let home = membership.home();
    registration(Registration { id, home, home_key, key, name, mac, kind, room, created_at }, membership)
}

/// A device from the registry alone: its state is not known, and must be given or not be read.
pub(super) fn registered(
    registration: Registration,
    (home_segment, device_segment): (Option<String>, Option<String>),
    membership: Membership,
) -> Device {
    let Registration { id, home, home_key, key, name, mac, kind, room, created_at } = registration;
    Device {
        id,
        home,
        home_key,
        key,
        name,
        mac,
        kind,
        room,
        created_at,
        state: LastState::default(),
        home_segment,
        device_segment,
        place: None,
        membership,
    }
}

statement! {
    struct FindDevices<'a>("sql/find_devices.sql") -> Columns {
        viewer: BigInt = UserId,
        ids: Array<BigInt> = &'a [DeviceId],
        with_reported: Bool = bool,
    }
}

statement! {
    struct FindDevicesInRooms<'a>("sql/find_devices_in_rooms.sql") -> Columns {
        viewer: BigInt = UserId,
        rooms: Array<BigInt> = &'a [RoomId],
        limit: BigInt = i64,
        with_reported: Bool = bool,
    }
}

statement! {
    struct PageDevices<'a>("sql/page_devices.sql") -> Columns {
        ..filter: DeviceFilter = &'a DeviceFilter,
        viewer: BigInt = UserId,
        homes: Array<BigInt> = &'a [HomeId],
        after: BigInt = i64,
        limit: BigInt = i64,
        with_reported: Bool = bool,
    }
}

pub(super) async fn page(
    conn: &mut AsyncPgConnection,
    viewer: UserId,
    page: &DevicePage<'_>,
    budget: &MemoryBudget,
) -> Result<Vec<Device>, Error> {
    let DevicePage { homes, filter, after, limit, with_reported } = *page;
    let statement = PageDevices { filter, viewer, homes, after: after.map_or(0, DeviceId::get), limit, with_reported };
    collect_bounded(statement.load_stream::<Row>(conn).await?, budget, device).await
}

pub(super) async fn by_ids(
    conn: &mut AsyncPgConnection,
    viewer: UserId,
    ids: &[DeviceId],
    with_reported: bool,
    budget: &MemoryBudget,
) -> Result<Vec<Device>, Error> {
    let statement = FindDevices { viewer, ids, with_reported };
    collect_bounded(statement.load_stream::<Row>(conn).await?, budget, device).await
}

/// At most `limit` devices.
pub(super) async fn by_rooms(
    conn: &mut AsyncPgConnection,
    viewer: UserId,
    rooms: &[RoomId],
    limit: i64,
    with_reported: bool,
    budget: &MemoryBudget,
) -> Result<Vec<Device>, Error> {
    let statement = FindDevicesInRooms { viewer, rooms, limit, with_reported };
    collect_bounded(statement.load_stream::<Row>(conn).await?, budget, device).await
}
