//! SQL of the registry cache.

use std::sync::Arc;

use diesel::QueryResult;
use diesel::sql_types::{Array, BigInt, Nullable, Text, Timestamptz};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use super::registry_cache::RegistryEntry;
use super::store::{Registration, RegistrationColumns, SegmentColumns};
use crate::db::statement;
use crate::homes::{HomeRow, Room};
use crate::ids::{DeviceId, HomeId};

type HomeColumns = (BigInt, Text, Text, Text, Timestamptz);
type Columns = (RegistrationColumns, SegmentColumns, HomeColumns, Nullable<Text>, Text);
type Row = (Registration, (Option<String>, Option<String>), HomeRow, Option<String>, String);

statement! {
    struct FindRegistryEntries("sql/find_registry_entries.sql") -> Columns {
        home: BigInt = HomeId,
        first: BigInt = DeviceId,
        limit: BigInt = i64,
    }
}

statement! {
    struct FindChangedRegistryEntries<'a>("sql/find_changed_registry_entries.sql") -> BigInt {
        ids: Array<BigInt> = &'a [DeviceId],
        versions: Array<Text> = Vec<&'a str>,
    }
}

/// At most `limit` devices of the home, from `first` on.
pub(super) async fn find(
    conn: &mut AsyncPgConnection,
    home: HomeId,
    first: DeviceId,
    limit: i64,
) -> QueryResult<Vec<RegistryEntry>> {
    let rows: Vec<Row> = FindRegistryEntries { home, first, limit }.load(conn).await?;
    Ok(rows.into_iter().map(entry).collect())
}

fn entry((registration, segments, home, room_name, version): Row) -> RegistryEntry {
    let room = registration.room.zip(room_name);
    let room = room.map(|(id, name)| Arc::new(Room { id, home: registration.home, name }));
    RegistryEntry { registration, segments, home, room, version: version.into() }
}

/// Those of these devices whose version is another one now.
pub(super) async fn find_changed(
    conn: &mut AsyncPgConnection,
    known: &[(DeviceId, Arc<RegistryEntry>)],
) -> QueryResult<Vec<DeviceId>> {
    let ids: Vec<DeviceId> = known.iter().map(|(id, _)| *id).collect();
    let versions = known.iter().map(|(_, entry)| &*entry.version).collect();
    FindChangedRegistryEntries { ids: &ids, versions }.load(conn).await
}
