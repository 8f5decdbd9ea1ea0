//! All devices, for operators.

use chrono::{DateTime, Utc};
use diesel::sql_types::{BigInt, Bool, Nullable, Text, Timestamptz};
use diesel_async::RunQueryDsl;

use crate::db::{Pool, statement};
use crate::error::Error;
use crate::ids::{DeviceId, HomeId};

type Columns = (BigInt, BigInt, Text, Text, Text, Text, Timestamptz, Bool, Nullable<Timestamptz>, Nullable<Text>);
type Row =
    (HomeId, DeviceId, String, String, String, String, DateTime<Utc>, bool, Option<DateTime<Utc>>, Option<String>);

statement! {
    struct ListDevices<'a>("sql/list_devices.sql") -> Columns {
        home: Nullable<Text> = Option<&'a str>,
        after_home: BigInt = i64,
        after: BigInt = i64,
        limit: BigInt = i64,
    }
}

/// A device of any home.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedDevice {
    pub home: HomeId,
    pub id: DeviceId,
    pub home_key: String,
    pub key: String,
    pub name: String,
    pub device_type: String,
    pub created_at: DateTime<Utc>,
    pub online: bool,
    pub last_seen_at: Option<DateTime<Utc>>,
    pub firmware_version: Option<String>,
}

/// Up to `limit` devices by home and id, those after `after`; `home` is the key of the only home.
pub async fn list_devices(
    pool: &Pool,
    home: Option<&str>,
    after: Option<(HomeId, DeviceId)>,
    limit: i64,
) -> Result<Vec<ListedDevice>, Error> {
    let (after_home, after) = after.map_or((0, 0), |(home, device)| (home.get(), device.get()));
    let rows: Vec<Row> = ListDevices { home, after_home, after, limit }.load(&mut pool.get().await?).await?;
    Ok(rows.into_iter().map(device).collect())
}

fn device(row: Row) -> ListedDevice {
    let (home, id, home_key, key, name, device_type, created_at, online, last_seen_at, firmware_version) = row;
    ListedDevice { home, id, home_key, key, name, device_type, created_at, online, last_seen_at, firmware_version }
}
