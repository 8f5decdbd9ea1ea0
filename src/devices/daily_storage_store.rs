//! SQL of what devices have stored today.

use std::collections::HashMap;

use chrono::NaiveDate;
use diesel::QueryResult;
use diesel::sql_types::{Array, BigInt, Date};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use crate::db::statement;
use crate::ids::DeviceId;

statement! {
    struct FindStored("sql/find_stored.sql") -> (BigInt, BigInt) {
        devices: Array<BigInt> = Vec<DeviceId>,
        day: Date = NaiveDate,
    }
}

/// The bytes that these devices stored on a day. A device that stored nothing is left out.
pub(super) async fn find(
    conn: &mut AsyncPgConnection,
    devices: Vec<DeviceId>,
    day: NaiveDate,
) -> QueryResult<HashMap<DeviceId, i64>> {
    let found: Vec<(DeviceId, i64)> = FindStored { devices, day }.load(conn).await?;
    Ok(found.into_iter().collect())
}
