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
use crate::db::MemorySize;
use crate::ids::{DeviceId, HomeId, TelemetryId};

/// Readings of a home that one statement reads, whosever they are: a device that is silent in a busy home
/// would else have all of its neighbours' read for it.
const MAX_SCANNED: i64 = 5_000;

/// What was read.
pub(super) struct StoredPage {
    /// Oldest first.
    pub(super) readings: Vec<Reading>,
    /// Up to where, if that is not the end.
    pub(super) up_to: Option<TelemetryId>,
}

/// The last reading of a home's next [`MAX_SCANNED`] after a cursor; none where fewer are left.
struct Scanned {
    home: HomeId,
    cursor: TelemetryId,
}

impl QueryFragment<Pg> for Scanned {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql("select id from telemetry where home_id = ");
        out.push_bind_param::<BigInt, _>(&self.home)?;
        out.push_sql(" and id > ");
        out.push_bind_param::<BigInt, _>(&self.cursor)?;
        // Spelt out: the plan is to know how few these are.
        out.push_sql(&format!(" order by id offset {} limit 1", MAX_SCANNED - 1));
        Ok(())
    }
}

impl QueryId for Scanned {
    type QueryId = Self;
    const HAS_STATIC_QUERY_ID: bool = true;
}

impl Query for Scanned {
    type SqlType = BigInt;
}

struct After {
    home: HomeId,
    device: Option<DeviceId>,
    cursor: TelemetryId,
    up_to: i64,
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
        out.push_sql(" and t.id <= ");
        out.push_bind_param::<BigInt, _>(&self.up_to)?;
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

/// What was committed in a home (or by one device of it) after a cursor: at most `limit` readings, fewer
/// where they are long, and as far as [`MAX_SCANNED`] reach.
pub(super) async fn after(
    conn: &mut AsyncPgConnection,
    home: HomeId,
    device: Option<DeviceId>,
    cursor: TelemetryId,
    limit: i64,
    max_bytes: usize,
) -> QueryResult<StoredPage> {
    // Without a device every reading read is one of the page.
    let scanned: Option<TelemetryId> = match device {
        Some(_) => Scanned { home, cursor }.load(conn).await?.pop(),
        None => None,
    };
    // Ids are in the order of commits: none that is smaller comes later.
    let up_to = scanned.map_or(i64::MAX, TelemetryId::get);
    let mut rows = pin!(After { home, device, cursor, up_to, limit }.load_stream::<Row>(conn).await?);
    let (mut readings, mut bytes) = (Vec::new(), 0);
    while bytes < max_bytes
        && let Some(row) = rows.try_next().await?
    {
        let reading = reading(row);
        bytes += reading.text_bytes();
        readings.push(reading);
    }
    let is_full = bytes >= max_bytes || i64::try_from(readings.len()).is_ok_and(|n| n >= limit);
    let up_to = if is_full { readings.last().map(|reading| reading.id) } else { scanned };
    Ok(StoredPage { readings, up_to })
}
