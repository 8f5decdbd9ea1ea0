//! SQL that reads rejected messages.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
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
