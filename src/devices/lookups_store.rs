//! SQL for reading devices by their names in topics, and those of all homes of a viewer.

use diesel::sql_types::{Array, BigInt, Bool, Nullable, Text};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use super::lookups::{AllDevicesPage, DeviceRef};
use super::store::{Columns, Row, device};
use super::{Device, DeviceFilter};
use crate::db::{MemoryBudget, collect_bounded, statement};
use crate::error::Error;
use crate::ids::{HomeId, UserId};

statement! {
    struct FindNamedDevices<'a>("sql/find_named_devices.sql") -> Columns {
        viewer: BigInt = UserId,
        homes: Array<BigInt> = Vec<HomeId>,
        keys: Array<Nullable<Text>> = Vec<Option<&'a str>>,
        mac_addresses: Array<Nullable<Text>> = Vec<Option<String>>,
    }
}

statement! {
    struct PageAllDevices<'a>("sql/page_all_devices.sql") -> Columns {
        ..filter: DeviceFilter = &'a DeviceFilter,
        viewer: BigInt = UserId,
        after_home: BigInt = i64,
        after: BigInt = i64,
        limit: BigInt = i64,
        with_reported: Bool = bool,
    }
}

pub(super) async fn by_names(
    conn: &mut AsyncPgConnection,
    viewer: UserId,
    names: &[(HomeId, DeviceRef)],
    budget: &MemoryBudget,
) -> Result<Vec<Device>, Error> {
    let (mut homes, mut keys, mut mac_addresses) = (Vec::new(), Vec::new(), Vec::new());
    for (home, name) in names {
        homes.push(*home);
        keys.push(if let DeviceRef::Key(key) = name { Some(&**key) } else { None });
        mac_addresses.push(if let DeviceRef::Mac(mac) = name { Some(mac.to_string()) } else { None });
    }
    let statement = FindNamedDevices { viewer, homes, keys, mac_addresses };
    collect_bounded(statement.load_stream::<Row>(conn).await?, budget, device).await
}

pub(super) async fn page_of_all(
    conn: &mut AsyncPgConnection,
    viewer: UserId,
    page: &AllDevicesPage,
    budget: &MemoryBudget,
) -> Result<Vec<Device>, Error> {
    let AllDevicesPage { filter, after, limit, with_reported } = page;
    let (after_home, after) = after.map_or((0, 0), |(home, device)| (home.get(), device.get()));
    let statement = PageAllDevices { filter, viewer, after_home, after, limit: *limit, with_reported: *with_reported };
    collect_bounded(statement.load_stream::<Row>(conn).await?, budget, device).await
}
