//! SQL that reads readings in the order of their commits.

use std::pin::pin;

use diesel::QueryResult;
use diesel::pg::Pg;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::sql_types::{BigInt, Nullable};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use futures_util::TryStreamExt;

use super::Reading;
use super::history::store::{COLUMNS, Row, SqlRow, reading};
use crate::db::Weigh;
use crate::ids::{DeviceId, HomeId, TelemetryId};

struct After {
    home: HomeId,
    device: Option<DeviceId>,
    cursor: TelemetryId,
    limit: i64,
}

impl QueryFragment<Pg> for After {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql("select ");
        out.push_sql(COLUMNS);
        out.push_sql(" from telemetry t where t.home_id = ");
        out.push_bind_param::<BigInt, _>(&self.home)?;
        out.push_sql(" and t.id > ");
        out.push_bind_param::<BigInt, _>(&self.cursor)?;
        out.push_sql(" and t.device_id = coalesce(");
        out.push_bind_param::<Nullable<BigInt>, _>(&self.device)?;
        out.push_sql(", t.device_id) order by t.id limit ");
        out.push_bind_param::<BigInt, _>(&self.limit)?;
        Ok(())
    }
}

impl QueryId for After {
    type QueryId = Self;
    const HAS_STATIC_QUERY_ID: bool = true;
}

impl Query for After {
    type SqlType = SqlRow;
}

/// What was committed in a home (or by one device of it) after a cursor, oldest first: up to `limit`
/// readings, fewer where they are long, but not none.
pub(super) async fn after(
    conn: &mut AsyncPgConnection,
    home: HomeId,
    device: Option<DeviceId>,
    cursor: TelemetryId,
    limit: i64,
    max_bytes: usize,
) -> QueryResult<Vec<Reading>> {
    let mut rows = pin!(After { home, device, cursor, limit }.load_stream::<Row>(conn).await?);
    let (mut page, mut bytes) = (Vec::new(), 0);
    while bytes < max_bytes
        && let Some(row) = rows.try_next().await?
    {
        let reading = reading(row);
        bytes += reading.text_bytes();
        page.push(reading);
    }
    Ok(page)
}
