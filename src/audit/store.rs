//! SQL of the audit log.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Json, Nullable, Text, Untyped};
use diesel_async::{AsyncConnectionCore, AsyncPgConnection, RunQueryDsl};

use super::{Action, ActorKind, Entry, RequestContext};
use crate::db::schema::audit_log;
use crate::db::{JsonText, statement};
use crate::ids::{AuditEntryId, HomeId, UserId};

/// An entry of the log.
#[derive(Debug, Clone, PartialEq, Queryable, Selectable)]
#[diesel(table_name = audit_log, check_for_backend(diesel::pg::Pg))]
pub struct StoredEntry {
    /// Later entries have greater ids.
    pub id: AuditEntryId,
    /// By the database's clock.
    pub at: DateTime<Utc>,
    pub actor_kind: ActorKind,
    /// The account may be deleted since.
    #[diesel(column_name = actor_id)]
    pub actor_user: UserId,
    /// The e-mail or the integration's name at that time.
    pub actor: String,
    /// The client's network address, if it was known.
    pub address: Option<String>,
    /// The text of an [`Action`]. Another version of the program may know other ones.
    pub action: String,
    pub target: String,
    pub details: JsonText,
}

statement! {
    /// Entries of one request, one column a field.
    struct Insert<'a>("sql/insert.sql") -> Untyped {
        home: Nullable<BigInt> = Option<HomeId>,
        user: BigInt = UserId,
        kind: Text = ActorKind,
        address: Nullable<Text> = Option<String>,
        actions: Array<Text> = Vec<Action>,
        targets: Array<Text> = Vec<&'a str>,
        details: Array<Json> = Vec<&'a JsonText>,
    }
}

/// Inserts the entries in this order.
pub(super) async fn insert(
    conn: &AsyncPgConnection,
    by: &RequestContext,
    home: Option<HomeId>,
    entries: &[Entry],
) -> QueryResult<()> {
    let insert = Insert {
        home,
        user: by.user,
        kind: ActorKind::from(by.actor),
        address: by.address.map(|address| address.to_canonical().to_string()),
        actions: entries.iter().map(|entry| entry.action).collect(),
        targets: entries.iter().map(|entry| entry.target.as_str()).collect(),
        details: entries.iter().map(|entry| &entry.details).collect(),
    };
    AsyncConnectionCore::execute_returning_count(&mut &*conn, insert).await.map(drop)
}

/// Up to `limit` entries of a home, newest first, older than the entry `after`.
pub(super) async fn page(
    conn: &mut AsyncPgConnection,
    home: HomeId,
    after: Option<AuditEntryId>,
    limit: i64,
) -> QueryResult<Vec<StoredEntry>> {
    audit_log::table
        .filter(audit_log::home_id.eq(home))
        .filter(audit_log::id.lt(after.map_or(i64::MAX, AuditEntryId::get)))
        .order(audit_log::id.desc())
        .limit(limit)
        .select(StoredEntry::as_select())
        .load(conn)
        .await
}

statement! {
    struct DeleteHomeLog("sql/delete_home_log.sql") -> Untyped {
        home: BigInt = HomeId,
        limit: BigInt = i64,
    }
}

/// Deletes up to `limit` entries of a deleted home and returns their number.
pub(super) async fn delete_home_log(conn: &mut AsyncPgConnection, home: HomeId, limit: i64) -> QueryResult<usize> {
    DeleteHomeLog { home, limit }.execute(conn).await
}

statement! {
    struct DeleteExpired("sql/delete_expired.sql") -> Untyped {
        limit: BigInt = i64,
    }
}

/// Deletes the expired ones of the `limit` oldest entries and returns their number.
pub(super) async fn delete_expired(conn: &mut AsyncPgConnection, limit: i64) -> QueryResult<usize> {
    DeleteExpired { limit }.execute(conn).await
}

statement! {
    struct FindDeletedHomes("sql/find_deleted_homes.sql") -> BigInt {
        limit: BigInt = i64,
    }
}

/// Deleted homes that still have entries, because their deletion was interrupted.
pub(super) async fn find_deleted_homes(conn: &mut AsyncPgConnection, limit: i64) -> QueryResult<Vec<HomeId>> {
    FindDeletedHomes { limit }.load(conn).await
}
