//! SQL of the directory: resolves the addresses of a batch in one statement.

use std::collections::HashSet;

use chrono::{DateTime, NaiveDate, Utc};
use diesel::sql_types::{Array, BigInt, Bool, Date, Nullable, Text, Timestamptz, Untyped};
use diesel::{ExpressionMethods, QueryDsl, QueryResult, QueryableByName};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use crate::db::statement;
use crate::ids::{DeviceId, HomeId};

statement! {
    /// Resolves addresses. Item `n` of the two columns of homes belongs together, and one of them is set. Item `n` of the
    /// other columns belongs to one address: the position of its home in those columns, from 1, and at most one name of
    /// the device, or its id and its MAC address.
    #[derive(Debug, Default)]
    pub(super) struct ResolveAddresses("sql/resolve_addresses.sql") -> Untyped {
        home_ids: Array<Nullable<BigInt>> = Vec<Option<i64>>,
        home_keys: Array<Nullable<Text>> = Vec<Option<String>>,
        homes: Array<BigInt> = Vec<i64>,
        device_ids: Array<Nullable<BigInt>> = Vec<Option<i64>>,
        device_macs: Array<Nullable<Text>> = Vec<Option<String>>,
        device_keys: Array<Nullable<Text>> = Vec<Option<String>>,
    }
}

/// What one address names.
#[derive(Debug, QueryableByName)]
pub(super) struct ResolvedAddress {
    /// Position of the address, from 1.
    #[diesel(sql_type = BigInt)]
    pub(super) position: i64,
    #[diesel(sql_type = BigInt)]
    pub(super) home: HomeId,
    #[diesel(sql_type = Nullable<BigInt>)]
    pub(super) device: Option<DeviceId>,
    #[diesel(sql_type = Bool)]
    pub(super) online: bool,
    #[diesel(sql_type = Bool)]
    pub(super) announced_offline: bool,
    #[diesel(sql_type = Bool)]
    pub(super) seen: bool,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub(super) backlog_since: Option<DateTime<Utc>>,
    #[diesel(sql_type = Nullable<Date>)]
    pub(super) stored_day: Option<NaiveDate>,
    #[diesel(sql_type = BigInt)]
    pub(super) stored_bytes: i64,
}

statement! {
    struct FindOnline("sql/find_online.sql") -> (BigInt, BigInt) {}
}

/// An address whose home does not exist has no row in the answer.
pub(super) async fn resolve(
    conn: &mut AsyncPgConnection,
    addresses: ResolveAddresses,
) -> QueryResult<Vec<ResolvedAddress>> {
    addresses.load(conn).await
}

/// Every device that is online in the database, with its home.
pub(super) async fn online(conn: &mut AsyncPgConnection) -> QueryResult<Vec<(HomeId, DeviceId)>> {
    FindOnline {}.load(conn).await
}

/// Those of these devices that have been deleted.
pub async fn find_deleted(conn: &AsyncPgConnection, devices: &HashSet<DeviceId>) -> QueryResult<HashSet<DeviceId>> {
    use crate::db::schema::devices::dsl;
    let found = dsl::devices.filter(dsl::id.eq_any(devices)).select(dsl::id);
    let found: HashSet<DeviceId> = found.load(&mut &*conn).await?.into_iter().collect();
    Ok(devices.difference(&found).copied().collect())
}
