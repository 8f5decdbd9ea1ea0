//! SQL of changing devices. A thousand are registered in as many statements as one.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_types::BigInt;
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use super::registry::{DeviceChange, NewDevice};
use crate::db::schema::{devices, homes, rooms};
use crate::ids::{DeviceId, HomeId, RoomId};

/// One registration in a home at a time, so that two with the same keys can't deadlock and none exceeds
/// the home's bound. False where the home is gone.
pub(super) async fn lock_home(conn: &mut AsyncPgConnection, home: HomeId) -> QueryResult<bool> {
    let row = homes::table.filter(homes::id.eq(home)).select(homes::id).for_no_key_update();
    Ok(row.first::<HomeId>(conn).await.optional()?.is_some())
}

pub(super) async fn count(conn: &mut AsyncPgConnection, home: HomeId) -> QueryResult<i64> {
    devices::table.filter(devices::home_id.eq(home)).count().get_result(conn).await
}

/// How many of the rooms are in the home.
pub(super) async fn count_rooms(conn: &mut AsyncPgConnection, home: HomeId, ids: &[RoomId]) -> QueryResult<i64> {
    rooms::table.filter(rooms::home_id.eq(home)).filter(rooms::id.eq_any(ids)).count().get_result(conn).await
}

/// Inserts those whose key and MAC address are free and returns them by key.
pub(super) async fn insert(
    conn: &mut AsyncPgConnection,
    home: HomeId,
    new: &[NewDevice],
    created_at: DateTime<Utc>,
) -> QueryResult<Vec<(String, DeviceId)>> {
    let rows: Vec<_> = new
        .iter()
        .map(|device| {
            (
                devices::home_id.eq(home),
                devices::key.eq(&device.key),
                devices::name.eq(&device.name),
                devices::mac_address.eq(device.mac.as_ref().map(super::Mac::as_str)),
                devices::kind.eq(device.kind.as_str()),
                devices::room_id.eq(device.room),
                devices::created_at.eq(created_at),
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

/// One key or MAC address of the home that is among these.
pub(super) async fn taken(
    conn: &mut AsyncPgConnection,
    home: HomeId,
    keys: &[&str],
    macs: &[&str],
) -> QueryResult<Option<(String, Option<String>)>> {
    devices::table
        .filter(devices::home_id.eq(home))
        .filter(devices::key.eq_any(keys).or(devices::mac_address.eq_any(macs)))
        .order(devices::id)
        .select((devices::key, devices::mac_address))
        .first(conn)
        .await
        .optional()
}

/// What was entered of a device and may be changed.
#[derive(Queryable)]
pub(super) struct Entered {
    pub(super) name: String,
    pub(super) kind: String,
    pub(super) mac: Option<String>,
    pub(super) room: Option<RoomId>,
}

/// A device as it was entered, which stays so until the transaction ends.
pub(super) async fn lock(conn: &mut AsyncPgConnection, home: HomeId, device: DeviceId) -> QueryResult<Option<Entered>> {
    let row = devices::table.filter(devices::id.eq(device)).filter(devices::home_id.eq(home));
    let row = row.select((devices::name, devices::kind, devices::mac_address, devices::room_id));
    row.for_no_key_update().first(conn).await.optional()
}

/// A MAC address that is taken is a unique violation.
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
        change.kind.map(|kind| devices::kind.eq(kind.as_str())),
        change.mac.as_ref().map(|mac| devices::mac_address.eq(mac.as_ref().map(super::Mac::as_str))),
        change.room.map(|room| devices::room_id.eq(room)),
    );
    diesel::update(row).set(changes).execute(conn).await.map(drop)
}

/// Deletes the device with all but its readings, and tells its key and its name. To be called behind the
/// ingest gate.
pub(super) async fn delete(
    conn: &mut AsyncPgConnection,
    home: HomeId,
    device: DeviceId,
) -> QueryResult<Option<(String, String)>> {
    // The device before what hangs on it, and that in the order in which everybody locks it.
    const SQL: [&str; 2] = [
        "with going as materialized (select id from commands where device_id = $1 order by id for update) \
         delete from commands c using going where c.id = going.id",
        "with going as materialized (select device_id, version from device_configs where device_id = $1 \
            order by version for update) \
         delete from device_configs c using going where c.device_id = going.device_id and c.version = going.version",
    ];
    let row = devices::table.filter(devices::id.eq(device)).filter(devices::home_id.eq(home));
    let gone = diesel::delete(row).returning((devices::key, devices::name)).get_result(conn).await.optional()?;
    if gone.is_some() {
        for sql in SQL {
            diesel::sql_query(sql).bind::<BigInt, _>(device).execute(conn).await?;
        }
    }
    Ok(gone)
}
