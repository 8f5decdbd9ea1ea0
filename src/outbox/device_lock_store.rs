//! SQL of the advisory locks that keep a device to one dispatcher. They belong to the connection, so the locks of
//! a server that dies are released.

use diesel::QueryResult;
use diesel::sql_types::{Array, BigInt, Integer};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use crate::db::statement;
use crate::ids::DeviceId;

statement! {
    struct LockDevices<'a>("sql/lock_devices.sql") -> BigInt {
        class: Integer = i32,
        devices: Array<BigInt> = &'a [DeviceId],
    }
}

statement! {
    struct UnlockDevices<'a>("sql/unlock_devices.sql") -> BigInt {
        class: Integer = i32,
        devices: Array<BigInt> = &'a [DeviceId],
    }
}

/// Locks those of `devices` that no other server has locked, and returns them. A statement of its own: the
/// statements after it see everything that the last holder committed.
pub(super) async fn lock(conn: &mut AsyncPgConnection, class: i32, devices: &[DeviceId]) -> QueryResult<Vec<DeviceId>> {
    LockDevices { class, devices }.load(conn).await
}

pub(super) async fn unlock(conn: &mut AsyncPgConnection, class: i32, devices: &[DeviceId]) -> QueryResult<()> {
    UnlockDevices { class, devices }.load::<DeviceId>(conn).await.map(drop)
}
