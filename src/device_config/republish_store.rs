//! SQL of configurations that the broker lost, or may have lost, with its session: they are published again.

use chrono::{DateTime, Utc};
use diesel::sql_types::{Timestamptz, Untyped};
use diesel::{ExpressionMethods, QueryDsl, QueryResult};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use crate::db::schema::retained_clearings as clearings;
use crate::db::statement;

statement! {
    struct RepublishRecent("sql/republish_recent.sql") -> Untyped {
        since: Timestamptz = DateTime<Utc>,
    }
}

/// The broker may have restarted from an older snapshot: what it confirmed after `since` is sent again. Clearings
/// that it confirmed before are in its snapshot, and their rows are deleted.
pub(super) async fn republish_recent(conn: &mut AsyncPgConnection, since: DateTime<Utc>) -> QueryResult<()> {
    RepublishRecent { since }.execute(conn).await?;
    diesel::delete(clearings::table.filter(clearings::confirmed_at.le(since))).execute(conn).await?;
    diesel::update(clearings::table.filter(clearings::confirmed_at.gt(since)))
        .set(clearings::confirmed_at.eq(None::<DateTime<Utc>>))
        .execute(conn)
        .await
        .map(drop)
}

statement! {
    struct RepublishAll("sql/republish_all.sql") -> Untyped {}
}

/// The broker lost every retained message.
pub(super) async fn republish_all(conn: &mut AsyncPgConnection) -> QueryResult<()> {
    RepublishAll {}.execute(conn).await.map(drop)
}
