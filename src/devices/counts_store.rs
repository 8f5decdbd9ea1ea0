//! SQL that counts devices.

use std::collections::HashMap;

use diesel::QueryResult;
use diesel::sql_types::{Array, BigInt, Bool};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use super::Counted;
use crate::db::statement;
use crate::ids::{HomeId, RoomId, UserId};

statement! {
    struct CountDevices<'a>("sql/count_devices.sql") -> (BigInt, BigInt) {
        viewer: BigInt = UserId,
        homes: Array<BigInt> = &'a [HomeId],
        only_online: Bool = bool,
    }
}

statement! {
    struct CountDevicesInRooms<'a>("sql/count_devices_in_rooms.sql") -> (BigInt, BigInt) {
        viewer: BigInt = UserId,
        rooms: Array<BigInt> = &'a [RoomId],
        only_online: Bool = bool,
    }
}

pub(super) async fn of_homes(
    conn: &mut AsyncPgConnection,
    viewer: UserId,
    homes: &[HomeId],
    counted: Counted,
) -> QueryResult<HashMap<HomeId, i64>> {
    let statement = CountDevices { viewer, homes, only_online: counted == Counted::Online };
    let counts: Vec<(HomeId, i64)> = statement.load(conn).await?;
    Ok(counts.into_iter().collect())
}

pub(super) async fn of_rooms(
    conn: &mut AsyncPgConnection,
    viewer: UserId,
    rooms: &[RoomId],
    counted: Counted,
) -> QueryResult<HashMap<RoomId, i64>> {
    let statement = CountDevicesInRooms { viewer, rooms, only_online: counted == Counted::Online };
    let counts: Vec<(RoomId, i64)> = statement.load(conn).await?;
    Ok(counts.into_iter().collect())
}
