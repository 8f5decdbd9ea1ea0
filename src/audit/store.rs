//! SQL of the audit log.

use chrono::{DateTime, Utc};
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::query_builder::{AstPass, QueryFragment, QueryId};
use diesel::result::Error as DieselError;
use diesel::sql_types::{Array, BigInt, Json, Nullable, Text};
use diesel_async::{AsyncConnectionCore, AsyncPgConnection, RunQueryDsl};

use super::{ActorKind, ActorKindError, Entry, RequestContext, StoredEntry};
use crate::db::JsonText;
use crate::db::schema::audit_log;
use crate::ids::{AuditEntryId, HomeId, UserId};

/// Entries by one column a field.
struct Insert<'a> {
    home: Option<HomeId>,
    user: UserId,
    kind: &'static str,
    address: Option<String>,
    actions: Vec<&'static str>,
    targets: Vec<&'a str>,
    details: Vec<&'a JsonText>,
}

impl QueryFragment<Pg> for Insert<'_> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql(
            "insert into audit_log (home_id, actor_kind, actor_id, actor, address, action, target, details) select ",
        );
        out.push_bind_param::<Nullable<BigInt>, _>(&self.home)?;
        out.push_sql(", ");
        out.push_bind_param::<Text, _>(&self.kind)?;
        out.push_sql(", ");
        out.push_bind_param::<BigInt, _>(&self.user)?;
        // What they are called now: it stays when they are called otherwise, or are gone.
        out.push_sql(", coalesce((select case ");
        out.push_bind_param::<Text, _>(&self.kind)?;
        out.push_sql(" when 'INTEGRATION' then name else email end from users where id = ");
        out.push_bind_param::<BigInt, _>(&self.user)?;
        out.push_sql("), 'user ' || ");
        out.push_bind_param::<BigInt, _>(&self.user)?;
        out.push_sql("), ");
        out.push_bind_param::<Nullable<Text>, _>(&self.address)?;
        out.push_sql(", n.action, n.target, n.details from unnest(");
        out.push_bind_param::<Array<Text>, _>(&self.actions)?;
        out.push_sql(", ");
        out.push_bind_param::<Array<Text>, _>(&self.targets)?;
        out.push_sql(", ");
        out.push_bind_param::<Array<Json>, _>(&self.details)?;
        out.push_sql(") n (action, target, details)");
        Ok(())
    }
}

impl QueryId for Insert<'_> {
    type QueryId = Insert<'static>;
    const HAS_STATIC_QUERY_ID: bool = true;
}

/// In the order given.
pub(super) async fn insert(
    conn: &AsyncPgConnection,
    by: &RequestContext,
    home: Option<HomeId>,
    entries: &[Entry],
) -> QueryResult<()> {
    let insert = Insert {
        home,
        user: by.user,
        kind: ActorKind::from(by.actor).as_str(),
        address: by.address.map(|address| address.to_canonical().to_string()),
        actions: entries.iter().map(|entry| entry.action.as_str()).collect(),
        targets: entries.iter().map(|entry| entry.target.as_str()).collect(),
        details: entries.iter().map(|entry| &entry.details).collect(),
    };
    AsyncConnectionCore::execute_returning_count(&mut &*conn, insert).await.map(drop)
}

type Row = (AuditEntryId, DateTime<Utc>, String, UserId, String, Option<String>, String, String, JsonText);

fn kept((id, at, kind, actor_user, actor, address, action, target, details): Row) -> QueryResult<StoredEntry> {
    let unknown = |error: ActorKindError| DieselError::DeserializationError(Box::new(error));
    let actor_kind = kind.parse().map_err(unknown)?;
    Ok(StoredEntry { id, at, actor_kind, actor_user, actor, address, action, target, details })
}

pub(super) async fn page(
    conn: &mut AsyncPgConnection,
    home: HomeId,
    after: Option<AuditEntryId>,
    limit: i64,
) -> QueryResult<Vec<StoredEntry>> {
    let after = after.map_or(i64::MAX, AuditEntryId::get);
    let rows: Vec<Row> = audit_log::table
        .filter(audit_log::home_id.eq(home))
        .filter(audit_log::id.lt(after))
        .order(audit_log::id.desc())
        .limit(limit)
        .select((
            audit_log::id,
            audit_log::at,
            audit_log::actor_kind,
            audit_log::actor_id,
            audit_log::actor,
            audit_log::address,
            audit_log::action,
            audit_log::target,
            audit_log::details,
        ))
        .load(conn)
        .await?;
    rows.into_iter().map(kept).collect()
}

/// Deletes up to `limit` entries of a home that is gone, and says how many went.
pub(super) async fn delete(conn: &mut AsyncPgConnection, home: HomeId, limit: usize) -> QueryResult<usize> {
    const SQL: &str = "delete from audit_log where id in (select id from audit_log where home_id = $1 limit $2)";
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    diesel::sql_query(SQL).bind::<BigInt, _>(home).bind::<BigInt, _>(limit).execute(conn).await
}

/// Deletes those of the `limit` oldest entries that are kept long enough, and says how many went.
pub(super) async fn delete_old(conn: &mut AsyncPgConnection, limit: usize) -> QueryResult<usize> {
    const SQL: &str = "delete from audit_log where id in (select id from \
         (select id, at from audit_log order by id limit $1) oldest where at < now() - audit_kept_for())";
    diesel::sql_query(SQL).bind::<BigInt, _>(i64::try_from(limit).unwrap_or(i64::MAX)).execute(conn).await
}

/// Homes that have entries and are gone: of deletions that were interrupted.
pub(super) async fn gone(conn: &mut AsyncPgConnection, limit: i64) -> QueryResult<Vec<HomeId>> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = BigInt)]
        id: HomeId,
    }
    // From home to home by the index: the log itself is long.
    const SQL: &str = "with recursive known (id) as (select min(home_id) from audit_log \
         union all select (select min(home_id) from audit_log where home_id > known.id) from known where id is not null) \
         select id from known where id is not null and not exists (select from homes h where h.id = known.id) limit $1";
    let rows: Vec<Row> = diesel::sql_query(SQL).bind::<BigInt, _>(limit).load(conn).await?;
    Ok(rows.into_iter().map(|row| row.id).collect())
}
