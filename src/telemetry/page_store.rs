//! SQL that reads a page of devices, each with its newest reading, in one statement.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::result::Error as DieselError;
use diesel::sql_types::{Array, BigInt, Bool, Nullable, SmallInt, Text, Timestamptz};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use futures_util::{Stream, TryStreamExt};

use super::SharedReading;
use super::history_page::first_instant;
use super::read_store::{self, Health, HealthSql, Message, MessageSql, SensorsRow, SensorsSql, reading_of};
use crate::db::{MemoryBudget, MemorySize, collect_bounded, statement};
use crate::devices::{
    Device, DeviceColumns, DeviceFilter, DevicePage, DeviceRow, Registration, RegistrationColumns, read_device,
    read_names, read_registration,
};
use crate::error::Error;
use crate::homes::{HomeRole, Membership, MembershipColumns};
use crate::ids::{DeviceId, HomeId, UserId};

/// Readings of one device with the same, newest time that the page reads. Of more than that, a statement of its own
/// finds the newest.
const MAX_TIES: usize = 8;

/// What a page reads besides the devices and the sensors of their newest readings. The rest is empty.
#[derive(Debug, Clone, Copy)]
pub struct LatestColumns {
    /// The states of the devices.
    pub states: bool,
    /// More of the devices than their ids, keys and names. All is read of filtered pages.
    pub registration: bool,
    /// Of the readings: firmware version, signal, battery, and values of other sensors.
    pub health: bool,
}

/// A device, and its newest reading if it has one. A large page is sorted and passed on: behind pointers, not by value.
pub type DeviceWithLatest = (Arc<Device>, Option<SharedReading>);

/// The columns of a reading without the ids of its device and home, null for a device without readings.
type ReadingColumns = (MessageSql, SensorsSql, HealthSql);
type ReadingRow = (Message, SensorsRow, Health);

/// The columns of a device without its state.
type RegisteredColumns = (RegistrationColumns, MembershipColumns);
type RegisteredRow = (Registration, Membership);

/// Ids, key and name of a device, and the role and the scopes of the viewer.
type NameColumns = (BigInt, BigInt, Text, Text, Text, Nullable<SmallInt>);
type NameRow = (DeviceId, HomeId, String, String, HomeRole, Option<i16>);

statement! {
    struct PageLatest<'a>("sql/page_latest.sql") -> (DeviceColumns, ReadingColumns) {
        ..filter: DeviceFilter = &'a DeviceFilter,
        viewer: BigInt = UserId,
        homes: Array<BigInt> = &'a [HomeId],
        after: BigInt = i64,
        since: Timestamptz = DateTime<Utc>,
        limit: BigInt = i64,
        max_ties: BigInt = i64,
        health: Bool = bool,
        with_reported: Bool = bool,
    }
}

statement! {
    struct PageLatestWithoutStates<'a>("sql/page_latest_without_states.sql") -> (RegisteredColumns, ReadingColumns) {
        ..filter: DeviceFilter = &'a DeviceFilter,
        viewer: BigInt = UserId,
        homes: Array<BigInt> = &'a [HomeId],
        after: BigInt = i64,
        since: Timestamptz = DateTime<Utc>,
        limit: BigInt = i64,
        max_ties: BigInt = i64,
        health: Bool = bool,
    }
}

statement! {
    struct PageLatestNames<'a>("sql/page_latest_names.sql") -> (NameColumns, MessageSql, SensorsSql) {
        viewer: BigInt = UserId,
        homes: Array<BigInt> = &'a [HomeId],
        after: BigInt = i64,
        since: Timestamptz = DateTime<Utc>,
        limit: BigInt = i64,
        max_ties: BigInt = i64,
    }
}

impl MemorySize for DeviceWithLatest {
    fn text_bytes(&self) -> usize {
        self.0.text_bytes() + self.1.as_ref().map_or(0, |reading| reading.text_bytes())
    }
}

/// A page of the devices of each home that `viewer` sees, by home and id. Devices without a reading since `since` are looked
/// up by a statement of their own.
pub(super) async fn page(
    conn: &mut AsyncPgConnection,
    viewer: UserId,
    page: &DevicePage<'_>,
    since: Option<DateTime<Utc>>,
    columns: LatestColumns,
    budget: &MemoryBudget,
) -> Result<Vec<DeviceWithLatest>, Error> {
    let DevicePage { homes, filter, after, limit, with_reported } = *page;
    let after = after.map_or(0, DeviceId::get);
    let max_ties = i64::try_from(MAX_TIES).expect("a small number");
    let LatestColumns { states, registration, health } = columns;
    let from = since.unwrap_or_else(first_instant);
    let mut rows = if states {
        let statement =
            PageLatest { filter, viewer, homes, after, since: from, limit, max_ties, health, with_reported };
        let rows = statement.load_stream::<(DeviceRow, ReadingRow)>(conn).await?;
        collect(rows, budget, read_device).await?
    } else if !registration && !health && !filter.is_filtered() {
        let statement = PageLatestNames { viewer, homes, after, since: from, limit, max_ties };
        let rows = statement.load_stream::<(NameRow, Message, SensorsRow)>(conn).await?;
        let rows = rows.map_ok(|(device, message, sensors)| (device, (message, sensors, Health::default())));
        collect(rows, budget, |row| named_device(viewer, row)).await?
    } else {
        let statement = PageLatestWithoutStates { filter, viewer, homes, after, since: from, limit, max_ties, health };
        let rows = statement.load_stream::<(RegisteredRow, ReadingRow)>(conn).await?;
        collect(rows, budget, |(registration, membership)| Ok(read_registration(registration, membership))).await?
    };
    let unknown = keep_newest(&mut rows, since.is_some());
    if !unknown.is_empty() {
        let newest = read_store::latest(conn, &unknown, budget).await?;
        let mut newest: HashMap<_, _> = newest.into_iter().map(|reading| (reading.device, reading)).collect();
        for (device, latest) in rows.iter_mut().filter(|(device, _)| unknown.contains(&device.id)) {
            *latest = newest.remove(&device.id).map(Arc::new);
        }
    }
    Ok(rows)
}

/// Sorts the rows by home and device and keeps the newest reading of each device, of several with the same time the one
/// that was committed last. Returns the devices whose newest reading is not among those that were read: more have its time,
/// or none was found where only late ones were looked for.
fn keep_newest(rows: &mut Vec<DeviceWithLatest>, only_late: bool) -> Vec<DeviceId> {
    let newest_id = |latest: &Option<SharedReading>| latest.as_ref().map(|reading| reading.id);
    rows.sort_by_key(|(device, latest)| (device.home, device.id, Reverse(newest_id(latest))));
    let of_devices = rows.chunk_by(|(a, _), (b, _)| a.id == b.id);
    let is_unknown = |ties: &&[DeviceWithLatest]| ties.len() >= MAX_TIES || only_late && ties[0].1.is_none();
    let unknown = of_devices.filter(is_unknown).map(|ties| ties[0].0.id).collect();
    rows.dedup_by_key(|(device, _)| device.id);
    unknown
}

async fn collect<R>(
    rows: impl Stream<Item = QueryResult<(R, ReadingRow)>>,
    budget: &MemoryBudget,
    read: impl Fn(R) -> QueryResult<Device>,
) -> Result<Vec<DeviceWithLatest>, Error> {
    collect_bounded(rows, budget, |(device, (message, sensors, health))| {
        let device = read(device)?;
        let latest = reading_of(&device, message, sensors, health);
        Ok((Arc::new(device), latest.map(Arc::new)))
    })
    .await
}

fn named_device(viewer: UserId, (id, home, key, name, role, scopes): NameRow) -> QueryResult<Device> {
    let membership = <Membership as Queryable<MembershipColumns, Pg>>::build((viewer, home, role, scopes));
    Ok(read_names(id, key, name, membership.map_err(DieselError::DeserializationError)?))
}
