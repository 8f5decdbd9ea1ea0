//! All homes, for operators.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Text, Timestamptz};
use diesel_async::RunQueryDsl;

use crate::db::schema::homes;
use crate::db::{Pool, statement};
use crate::error::Error;
use crate::ids::HomeId;

statement! {
    struct ListHomes("sql/list_homes.sql") -> (BigInt, Text, Text, Text, Timestamptz, Array<Text>, BigInt, BigInt) {
        after: BigInt = i64,
        limit: BigInt = i64,
    }
}

type Row = (HomeId, String, String, String, DateTime<Utc>, Vec<String>, i64, i64);

/// A home and what it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedHome {
    pub id: HomeId,
    pub key: String,
    pub name: String,
    pub timezone: String,
    pub created_at: DateTime<Utc>,
    /// E-mail addresses of its owners.
    pub owners: Vec<String>,
    /// Members who are people.
    pub n_members: i64,
    pub n_devices: i64,
}

/// Whether there is a home with this key.
pub async fn has_home(pool: &Pool, key: &str) -> Result<bool, Error> {
    let row = homes::table.filter(homes::key.eq(key)).select(homes::id);
    Ok(row.first::<HomeId>(&mut pool.get().await?).await.optional()?.is_some())
}

/// Up to `limit` homes by id, those after `after`.
pub async fn list_homes(pool: &Pool, after: Option<HomeId>, limit: i64) -> Result<Vec<ListedHome>, Error> {
    let after = after.map_or(0, HomeId::get);
    let rows: Vec<Row> = ListHomes { after, limit }.load(&mut pool.get().await?).await?;
    let home = |(id, key, name, timezone, created_at, owners, n_members, n_devices): Row| ListedHome {
        id,
        key,
        name,
        timezone,
        created_at,
        owners,
        n_members,
        n_devices,
    };
    Ok(rows.into_iter().map(home).collect())
}
