//! SQL of the dispatcher's own: the locks that keep a device to one server, and losses of the broker that
//! are to be made good. The locks belong to the connection, so a server that dies holds nobody up.

use chrono::{DateTime, Utc};
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::sql_types::{Array, BigInt, Integer};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use crate::db::schema::broker_losses as losses;
use crate::ids::DeviceId;

/// Tries a device's lock, or gives it back.
struct Locks<const TAKE: bool> {
    class: i32,
    devices: Vec<i64>,
}

impl<const TAKE: bool> QueryFragment<Pg> for Locks<TAKE> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        // Materialized, so that exactly these are tried and nothing else on the way.
        out.push_sql("with asked as materialized (select device from unnest(");
        out.push_bind_param::<Array<BigInt>, _>(&self.devices)?;
        out.push_sql(") device) select device from asked where ");
        out.push_sql(if TAKE { "pg_try_advisory_lock(" } else { "pg_advisory_unlock(" });
        out.push_bind_param::<Integer, _>(&self.class)?;
        out.push_sql(", hashint8(device))");
        Ok(())
    }
}

impl<const TAKE: bool> QueryId for Locks<TAKE> {
    type QueryId = Self;
    const HAS_STATIC_QUERY_ID: bool = true;
}

impl<const TAKE: bool> Query for Locks<TAKE> {
    type SqlType = BigInt;
}

/// Those of `devices` that no other server sends to, locked for this connection. Its own statement:
/// what is read after it is what the last holder left.
pub(super) async fn lock(conn: &mut AsyncPgConnection, class: i32, devices: &[DeviceId]) -> QueryResult<Vec<DeviceId>> {
    Locks::<true> { class, devices: devices.iter().map(|device| device.get()).collect() }.load(conn).await
}

/// Gives locked devices back.
pub(super) async fn unlock(conn: &mut AsyncPgConnection, class: i32, devices: &[DeviceId]) -> QueryResult<()> {
    let locks = Locks::<false> { class, devices: devices.iter().map(|device| device.get()).collect() };
    locks.load::<DeviceId>(conn).await.map(drop)
}

/// The time up to which the broker lost what this outbox gave it, where that is still to be made good.
pub(super) async fn loss(
    conn: &mut AsyncPgConnection,
    client_id: &str,
    outbox: &str,
) -> QueryResult<Option<DateTime<Utc>>> {
    losses::table.find((client_id, outbox)).select(losses::before).first(conn).await.optional()
}

/// That loss is made good.
pub(super) async fn made_good(
    conn: &mut AsyncPgConnection,
    client_id: &str,
    outbox: &str,
    before: DateTime<Utc>,
) -> QueryResult<()> {
    let done = losses::table.find((client_id, outbox)).filter(losses::before.eq(before));
    diesel::delete(done).execute(conn).await.map(drop)
}
