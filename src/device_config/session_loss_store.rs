//! SQL of what a broker lost, or may have lost: it is to go again.

use chrono::{DateTime, Utc};
use diesel::pg::Pg;
use diesel::query_builder::{AstPass, QueryFragment, QueryId};
use diesel::{ExpressionMethods, QueryDsl, QueryResult};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use crate::db::schema::{retained_clearings as cleared, retained_configs as retained};
use crate::ids::DeviceId;

/// The broker may have come back as it was a while ago: what it confirmed since then goes again. Clearings
/// from before are done for good.
pub(super) async fn doubt(conn: &mut AsyncPgConnection, since: DateTime<Utc>) -> QueryResult<()> {
    let fresh = retained::table.filter(retained::is_lost.eq(false)).filter(retained::confirmed_at.gt(since));
    let fresh = fresh.order(retained::device_id).select(retained::device_id).for_no_key_update();
    let fresh: Vec<DeviceId> = fresh.load(conn).await?;
    diesel::update(retained::table.filter(retained::device_id.eq_any(fresh)))
        .set(retained::is_lost.eq(true))
        .execute(conn)
        .await?;
    diesel::delete(cleared::table.filter(cleared::done_at.le(since))).execute(conn).await?;
    diesel::update(cleared::table.filter(cleared::done_at.gt(since)))
        .set(cleared::done_at.eq(None::<DateTime<Utc>>))
        .execute(conn)
        .await
        .map(drop)
}

struct LoseAll;

impl QueryFragment<Pg> for LoseAll {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql(
            "with kept as (select device_id from retained_configs where not is_lost
                order by device_id for no key update)
             update retained_configs r set is_lost = true from kept where r.device_id = kept.device_id",
        );
        Ok(())
    }
}

impl QueryId for LoseAll {
    type QueryId = Self;
    const HAS_STATIC_QUERY_ID: bool = true;
}

/// The broker keeps nothing any more.
pub(super) async fn lose_all(conn: &mut AsyncPgConnection) -> QueryResult<()> {
    LoseAll.execute(conn).await.map(drop)
}
