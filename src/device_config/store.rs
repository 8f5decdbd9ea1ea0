//! SQL of versions: adding one, reading them.

use chrono::{DateTime, Utc};
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::sql_types::{Array, BigInt, Binary, Integer, Json, Nullable, Text, Timestamptz};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use serde_json::Value;

use super::DeviceConfig;
use super::content::Content;
use super::cursor::ChangeCursor;
use crate::db::schema::device_configs;
use crate::db::{JsonText, MemoryBudget, collect_bounded};
use crate::error::Error;
use crate::homes::Access;
use crate::ids::{DeviceId, HomeId, UserId};

/// Of a table called `c`.
pub(super) const COLUMNS: &str = "c.device_id, c.home_id, c.version, c.config, c.status, c.errors, c.created_by, \
     c.created_at, c.sent_at, c.applied_at, c.updated_at";

#[derive(QueryableByName)]
pub(super) struct Row {
    #[diesel(sql_type = BigInt)]
    device_id: DeviceId,
    #[diesel(sql_type = BigInt)]
    home_id: HomeId,
    #[diesel(sql_type = Integer)]
    version: i32,
    #[diesel(sql_type = Json)]
    config: JsonText,
    #[diesel(sql_type = Text)]
    status: String,
    #[diesel(sql_type = Nullable<Json>)]
    errors: Option<JsonText>,
    #[diesel(sql_type = Nullable<BigInt>)]
    created_by: Option<UserId>,
    #[diesel(sql_type = Timestamptz)]
    created_at: DateTime<Utc>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    sent_at: Option<DateTime<Utc>>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    applied_at: Option<DateTime<Utc>>,
    #[diesel(sql_type = Timestamptz)]
    updated_at: DateTime<Utc>,
}

fn config(row: Row) -> QueryResult<DeviceConfig> {
    let status = row.status.parse().map_err(|error| diesel::result::Error::DeserializationError(Box::new(error)))?;
    Ok(DeviceConfig {
        device: row.device_id,
        home: row.home_id,
        version: row.version,
        config: row.config,
        status,
        errors: row.errors,
        created_by: row.created_by,
        created_at: row.created_at,
        sent_at: row.sent_at,
        applied_at: row.applied_at,
        updated_at: row.updated_at,
    })
}

pub(super) fn configs(rows: Vec<Row>) -> QueryResult<Vec<DeviceConfig>> {
    rows.into_iter().map(config).collect()
}

/// The content of a version, or of the newest one.
pub(super) async fn content(
    conn: &mut AsyncPgConnection,
    device: DeviceId,
    version: Option<i32>,
) -> QueryResult<Option<(i32, Content)>> {
    let row: Option<(i32, Value, Option<Vec<u8>>)> = device_configs::table
        .filter(device_configs::device_id.eq(device))
        .filter(device_configs::version.between(version.unwrap_or(1), version.unwrap_or(i32::MAX)))
        .order(device_configs::version.desc())
        .select((device_configs::version, device_configs::config, device_configs::secrets))
        .first(conn)
        .await
        .optional()?;
    Ok(row.map(|(version, public, secrets)| (version, Content { public, secrets })))
}

struct Supersede {
    device: DeviceId,
}

impl QueryFragment<Pg> for Supersede {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql("with old as (select device_id, version from device_configs where device_id = ");
        out.push_bind_param::<BigInt, _>(&self.device)?;
        // Locked in the order in which answers lock.
        out.push_sql(
            " and status in ('PENDING', 'SENT') order by version for no key update)
             update device_configs c set status = 'SUPERSEDED', updated_at = clock_timestamp()
             from old where c.device_id = old.device_id and c.version = old.version returning ",
        );
        out.push_sql(COLUMNS);
        Ok(())
    }
}

impl QueryId for Supersede {
    type QueryId = Self;
    const HAS_STATIC_QUERY_ID: bool = true;
}

impl Query for Supersede {
    type SqlType = diesel::sql_types::Untyped;
}

/// Ends the versions of a device that nobody answered and returns them.
pub(super) async fn supersede(conn: &mut AsyncPgConnection, device: DeviceId) -> QueryResult<Vec<DeviceConfig>> {
    let mut changed = configs(Supersede { device }.load(conn).await?)?;
    changed.sort_unstable_by_key(|config| config.version);
    Ok(changed)
}

struct Insert<'a> {
    home: HomeId,
    user: UserId,
    device: DeviceId,
    version: i32,
    content: &'a Content,
    now: DateTime<Utc>,
}

impl QueryFragment<Pg> for Insert<'_> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql(
            "insert into device_configs as c (device_id, home_id, version, config, secrets, status, created_by,
                created_at, updated_at) values (",
        );
        out.push_bind_param::<BigInt, _>(&self.device)?;
        out.push_sql(", ");
        out.push_bind_param::<BigInt, _>(&self.home)?;
        out.push_sql(", ");
        out.push_bind_param::<Integer, _>(&self.version)?;
        out.push_sql(", ");
        out.push_bind_param::<Json, _>(&self.content.public)?;
        out.push_sql(", ");
        out.push_bind_param::<Nullable<Binary>, _>(&self.content.secrets)?;
        out.push_sql(", 'PENDING', ");
        out.push_bind_param::<BigInt, _>(&self.user)?;
        out.push_sql(", ");
        out.push_bind_param::<Timestamptz, _>(&self.now)?;
        out.push_sql(", clock_timestamp()) returning ");
        out.push_sql(COLUMNS);
        Ok(())
    }
}

impl QueryId for Insert<'_> {
    type QueryId = Insert<'static>;
    const HAS_STATIC_QUERY_ID: bool = true;
}

impl Query for Insert<'_> {
    type SqlType = diesel::sql_types::Untyped;
}

pub(super) async fn insert(
    conn: &mut AsyncPgConnection,
    access: Access,
    device: DeviceId,
    version: i32,
    content: &Content,
    now: DateTime<Utc>,
) -> QueryResult<DeviceConfig> {
    let insert = Insert { home: access.home(), user: access.user(), device, version, content, now };
    config(insert.get_result(conn).await?)
}

/// Deletes the versions of a device up to this one.
pub(super) async fn prune(conn: &mut AsyncPgConnection, device: DeviceId, up_to: i32) -> QueryResult<()> {
    let old = device_configs::table.filter(device_configs::device_id.eq(device));
    diesel::delete(old.filter(device_configs::version.le(up_to))).execute(conn).await.map(drop)
}

struct History<'a> {
    devices: &'a [DeviceId],
    before: i32,
    limit: i64,
}

impl QueryFragment<Pg> for History<'_> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql("select ");
        out.push_sql(COLUMNS);
        out.push_sql(" from unnest(");
        out.push_bind_param::<Array<BigInt>, _>(&self.devices)?;
        out.push_sql(
            ") wanted (id) cross join lateral (select * from device_configs where device_id = wanted.id and version < ",
        );
        out.push_bind_param::<Integer, _>(&self.before)?;
        out.push_sql(" order by version desc limit ");
        out.push_bind_param::<BigInt, _>(&self.limit)?;
        out.push_sql(") c order by c.device_id, c.version desc");
        Ok(())
    }
}

impl QueryId for History<'_> {
    type QueryId = History<'static>;
    const HAS_STATIC_QUERY_ID: bool = true;
}

impl Query for History<'_> {
    type SqlType = diesel::sql_types::Untyped;
}

pub(super) async fn history(
    conn: &mut AsyncPgConnection,
    devices: &[DeviceId],
    before: Option<i32>,
    limit: i64,
    budget: &MemoryBudget,
) -> Result<Vec<DeviceConfig>, Error> {
    let history = History { devices, before: before.unwrap_or(i32::MAX), limit };
    collect_bounded(history.load_stream::<Row>(conn).await?, budget, config).await
}

struct Changed {
    home: HomeId,
    device: Option<DeviceId>,
    after: ChangeCursor,
    limit: i64,
}

impl QueryFragment<Pg> for Changed {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql("select ");
        out.push_sql(COLUMNS);
        out.push_sql(" from device_configs c where c.home_id = ");
        out.push_bind_param::<BigInt, _>(&self.home)?;
        out.push_sql(" and (c.updated_at, c.device_id, c.version) > (");
        out.push_bind_param::<Timestamptz, _>(&self.after.at)?;
        out.push_sql(", ");
        out.push_bind_param::<BigInt, _>(&self.after.device)?;
        out.push_sql(", ");
        out.push_bind_param::<Integer, _>(&self.after.version)?;
        out.push_sql(") and c.device_id = coalesce(");
        out.push_bind_param::<Nullable<BigInt>, _>(&self.device)?;
        out.push_sql(", c.device_id) order by c.updated_at, c.device_id, c.version limit ");
        out.push_bind_param::<BigInt, _>(&self.limit)?;
        Ok(())
    }
}

impl QueryId for Changed {
    type QueryId = Self;
    const HAS_STATIC_QUERY_ID: bool = true;
}

impl Query for Changed {
    type SqlType = diesel::sql_types::Untyped;
}

/// What changed in a home (or of one device of it) after a change, in the order of changes.
pub(super) async fn changed(
    conn: &mut AsyncPgConnection,
    home: HomeId,
    device: Option<DeviceId>,
    after: ChangeCursor,
    limit: i64,
) -> QueryResult<Vec<DeviceConfig>> {
    configs(Changed { home, device, after, limit }.load(conn).await?)
}

/// The database's clock.
pub(super) async fn now(conn: &mut AsyncPgConnection) -> QueryResult<DateTime<Utc>> {
    diesel::select(diesel::dsl::now.into_sql::<Timestamptz>()).get_result(conn).await
}
