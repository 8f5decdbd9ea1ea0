//! SQL of rejected messages, but for keeping them.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_types::BigInt;
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use super::RejectedMessage;
use crate::db::schema::rejected_messages;
use crate::ids::{HomeId, RejectedMessageId};

type Row = (RejectedMessageId, String, String, String, DateTime<Utc>);

pub(super) async fn page(
    conn: &mut AsyncPgConnection,
    home: HomeId,
    after: Option<RejectedMessageId>,
    limit: i64,
) -> QueryResult<Vec<RejectedMessage>> {
    let after = after.map_or(i64::MAX, RejectedMessageId::get);
    let rows: Vec<Row> = rejected_messages::table
        .filter(rejected_messages::home_id.eq(home))
        .filter(rejected_messages::id.lt(after))
        .order(rejected_messages::id.desc())
        .limit(limit)
        .select((
            rejected_messages::id,
            rejected_messages::topic,
            rejected_messages::reason,
            rejected_messages::payload_preview,
            rejected_messages::received_at,
        ))
        .load(conn)
        .await?;
    let message = |(id, topic, reason, payload_preview, received_at)| RejectedMessage {
        id,
        topic,
        reason,
        payload_preview,
        received_at,
    };
    Ok(rows.into_iter().map(message).collect())
}

/// Deletes up to `limit` of the home's oldest and says how many went.
pub(super) async fn delete(conn: &mut AsyncPgConnection, home: HomeId, limit: usize) -> QueryResult<usize> {
    const SQL: &str = "delete from rejected_messages where home_id = $1 and id <= (select max(id) from \
         (select id from rejected_messages where home_id = $1 order by id limit $2) oldest)";
    diesel::sql_query(SQL)
        .bind::<BigInt, _>(home)
        .bind::<BigInt, _>(i64::try_from(limit).unwrap_or(i64::MAX))
        .execute(conn)
        .await
}
