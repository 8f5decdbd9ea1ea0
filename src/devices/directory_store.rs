//! SQL of the directory: many names in, what they name out, in one statement.

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use diesel::pg::Pg;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::sql_types::{Array, BigInt, Bool, Nullable, Text, Timestamptz};
use diesel::{ExpressionMethods, QueryDsl, QueryResult, QueryableByName};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use crate::ids::{DeviceId, HomeId};

/// Names to look up; row `n` of each column belongs together, one of each pair is set.
#[derive(Debug, Default)]
pub(super) struct Names {
    pub(super) home_ids: Vec<Option<i64>>,
    pub(super) home_keys: Vec<Option<String>>,
    pub(super) device_ids: Vec<Option<i64>>,
    pub(super) device_macs: Vec<Option<String>>,
    pub(super) device_keys: Vec<Option<String>>,
}

/// What one name stands for.
#[derive(Debug, QueryableByName)]
pub(super) struct Found {
    /// Position of the name, from 1.
    #[diesel(sql_type = BigInt)]
    pub(super) position: i64,
    #[diesel(sql_type = BigInt)]
    pub(super) home: HomeId,
    #[diesel(sql_type = Nullable<BigInt>)]
    pub(super) device: Option<DeviceId>,
    #[diesel(sql_type = Bool)]
    pub(super) online: bool,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub(super) quiet_since: Option<DateTime<Utc>>,
}

/// A device that stood as online when this server started.
#[derive(Debug, QueryableByName)]
pub(super) struct Online {
    #[diesel(sql_type = BigInt)]
    pub(super) home: HomeId,
    #[diesel(sql_type = BigInt)]
    pub(super) device: DeviceId,
}

impl QueryFragment<Pg> for Names {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql(
            "select n.position, h.id as home, d.id as device, coalesce(s.online, false) as online,
                coalesce(s.backlog_since, s.last_seen_at, d.created_at) as quiet_since
             from unnest(",
        );
        out.push_bind_param::<Array<Nullable<BigInt>>, _>(&self.home_ids)?;
        out.push_sql(", ");
        out.push_bind_param::<Array<Nullable<Text>>, _>(&self.home_keys)?;
        out.push_sql(", ");
        out.push_bind_param::<Array<Nullable<BigInt>>, _>(&self.device_ids)?;
        out.push_sql(", ");
        out.push_bind_param::<Array<Nullable<Text>>, _>(&self.device_macs)?;
        out.push_sql(", ");
        out.push_bind_param::<Array<Nullable<Text>>, _>(&self.device_keys)?;
        out.push_sql(
            ") with ordinality n (home_id, home_key, device_id, device_mac, device_key, position)
             join homes h on h.id = n.home_id or h.key = n.home_key
             left join devices d on d.home_id = h.id
                 and (d.id = n.device_id or d.mac_address = n.device_mac or d.key = n.device_key)
             left join device_states s on s.device_id = d.id",
        );
        Ok(())
    }
}

impl QueryId for Names {
    type QueryId = Self;
    const HAS_STATIC_QUERY_ID: bool = true;
}

impl Query for Names {
    type SqlType = diesel::sql_types::Untyped;
}

/// Looks names up; a name without a home has no row in the answer.
pub(super) async fn resolve(conn: &mut AsyncPgConnection, names: &Names) -> QueryResult<Vec<Found>> {
    names.load(conn).await
}

/// Every device that stands as online.
pub(super) async fn online(conn: &mut AsyncPgConnection) -> QueryResult<Vec<Online>> {
    diesel::sql_query(
        "select d.home_id as home, d.id as device from device_states s join devices d on d.id = s.device_id where s.online",
    )
    .load(conn)
    .await
}

/// Which of these devices are no more.
pub async fn find_deleted(conn: &AsyncPgConnection, devices: &HashSet<DeviceId>) -> QueryResult<HashSet<DeviceId>> {
    use crate::db::schema::devices::dsl;
    let there = dsl::devices.filter(dsl::id.eq_any(devices)).select(dsl::id);
    let there: HashSet<DeviceId> = there.load(&mut &*conn).await?.into_iter().collect();
    Ok(devices.difference(&there).copied().collect())
}
