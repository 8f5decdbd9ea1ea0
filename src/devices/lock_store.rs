//! SQL of the row lock of a device.

use diesel::prelude::*;
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use crate::db::schema::devices;
use crate::ids::{DeviceId, HomeId};

/// Locks the device's row until the transaction ends; false if the home has no such device. Commands and
/// configurations are added under this lock, so they are numbered in the order of their commits, and none is
/// added to a device that is being deleted.
pub(crate) async fn lock_device(conn: &mut AsyncPgConnection, home: HomeId, device: DeviceId) -> QueryResult<bool> {
    let row = devices::table.filter(devices::id.eq(device)).filter(devices::home_id.eq(home));
    let found = row.select(devices::id).for_no_key_update().first::<DeviceId>(conn).await.optional()?;
    Ok(found.is_some())
}
