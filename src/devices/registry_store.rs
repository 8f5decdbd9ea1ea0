//! SQL for changing devices. Registering a thousand takes as many statements as registering one.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Nullable, Text, Untyped};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use super::{DeviceChange, DeviceType, NewDevice};
use crate::db::schema::{devices, homes, rooms};
use crate::db::statement;
use crate::ids::{DeviceId, HomeId, RoomId};

statement! {
    struct FindTaken<'a>("sql/find_taken.sql") -> (Text, Nullable<Text>) {
        home: BigInt = HomeId,
        keys: Array<Text> = &'a [&'a str],
        macs: Array<Text> = &'a [&'a str],
    }
}

statement! {
    struct DeleteCommands("sql/delete_commands.sql") -> Untyped {
        device: BigInt = DeviceId,
    }
}

statement! {
    struct DeleteConfigs("sql/delete_configs.sql") -> Untyped {
        device: BigInt = DeviceId,
    }
}

/// Locks the home: one registration at a time, so that two with the same keys can't deadlock and none exceeds the
/// bound of a home. Returns the home's key; `None` where the home does not exist.
pub(super) async fn lock_home(conn: &mut AsyncPgConnection, home: HomeId) -> QueryResult<Option<String>> {
    let row = homes::table.filter(homes::id.eq(home)).select(homes::key).for_no_key_update();
    row.first(conn).await.optional()
}

pub(super) async fn count(conn: &mut AsyncPgConnection, home: HomeId) -> QueryResult<i64> {
    devices::table.filter(devices::home_id.eq(home)).count().get_result(conn).await
}

/// How many of the rooms are in the home.
pub(super) async fn count_rooms(conn: &mut AsyncPgConnection, home: HomeId, ids: &[RoomId]) -> QueryResult<i64> {
    rooms::table.filter(rooms::home_id.eq(home)).filter(rooms::id.eq_any(ids)).count().get_result(conn).await
}

/// Inserts the devices whose key and MAC address are free, each with its client id, and returns their ids by key.
pub(super) async fn insert(
    conn: &mut AsyncPgConnection,
    home: HomeId,
    new: &[NewDevice],
    client_ids: &[String],
    created_at: DateTime<Utc>,
) -> QueryResult<Vec<(String, DeviceId)>> {
    let rows: Vec<_> = new
        .iter()
        .zip(client_ids)
        .map(|(device, client_id)| {
            (
                devices::home_id.eq(home),
                devices::key.eq(&device.key),
                devices::name.eq(&device.name),
                devices::mac_address.eq(device.mac.as_ref().map(super::Mac::as_str)),
                devices::kind.eq(device.kind),
                devices::room_id.eq(device.room),
                devices::created_at.eq(created_at),
                devices::mqtt_client_id.eq(client_id),
            )
        })
        .collect();
    diesel::insert_into(devices::table)
        .values(rows)
        .on_conflict_do_nothing()
        .returning((devices::key, devices::id))
        .get_results(conn)
        .await
}

/// A device of the home that has one of these keys or MAC addresses.
pub(super) async fn taken(
    conn: &mut AsyncPgConnection,
    home: HomeId,
    keys: &[&str],
    macs: &[&str],
) -> QueryResult<Option<(String, Option<String>)>> {
    FindTaken { home, keys, macs }.get_result(conn).await.optional()
}

/// The columns of a device that may be changed.
#[derive(Queryable)]
pub(super) struct Registration {
    pub(super) name: String,
    pub(super) kind: DeviceType,
    pub(super) mac: Option<String>,
    pub(super) room: Option<RoomId>,
}

/// The device, locked against changes until the transaction ends.
pub(super) async fn lock(
    conn: &mut AsyncPgConnection,
    home: HomeId,
    device: DeviceId,
) -> QueryResult<Option<Registration>> {
    let row = devices::table.filter(devices::id.eq(device)).filter(devices::home_id.eq(home));
    let row = row.select((devices::name, devices::kind, devices::mac_address, devices::room_id));
    row.for_no_key_update().first(conn).await.optional()
}

/// A MAC address that is taken gives a unique violation.
pub(super) async fn update(
    conn: &mut AsyncPgConnection,
    home: HomeId,
    device: DeviceId,
    change: &DeviceChange,
) -> QueryResult<()> {
    let row = devices::table.filter(devices::id.eq(device)).filter(devices::home_id.eq(home));
    if *change == DeviceChange::default() {
        return Ok(());
    }
    let changes = (
        change.name.as_ref().map(|name| devices::name.eq(name)),
        change.kind.map(|kind| devices::kind.eq(kind)),
        change.mac.as_ref().map(|mac| devices::mac_address.eq(mac.as_ref().map(super::Mac::as_str))),
        change.room.map(|room| devices::room_id.eq(room)),
    );
    diesel::update(row).set(changes).execute(conn).await.map(drop)
}

/// Deletes the device with all its rows but the readings, and returns its key and its name. Call it with the ingest
/// lock held.
pub(super) async fn delete(
    conn: &mut AsyncPgConnection,
    home: HomeId,
    device: DeviceId,
) -> QueryResult<Option<(String, String)>> {
    let row = devices::table.filter(devices::id.eq(device)).filter(devices::home_id.eq(home));
    let deleted = diesel::delete(row).returning((devices::key, devices::name)).get_result(conn).await.optional()?;
    if deleted.is_some() {
        DeleteCommands { device }.execute(conn).await?;
        DeleteConfigs { device }.execute(conn).await?;
    }
    Ok(deleted)
}
