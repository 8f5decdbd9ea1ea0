//! SQL of ingest's own tables: deliveries of the broker session, rejected messages.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use crate::db::schema::{mqtt_deliveries, rejected_messages};
use crate::ids::HomeId;
use crate::mqtt::Packet;

/// Deliveries kept: one for each packet id of the protocol.
const MAX_DELIVERIES: i64 = 65_535;

/// A rejected message that is kept for the admins of the home it named.
#[derive(Debug, Clone, Insertable)]
#[diesel(table_name = rejected_messages)]
pub(super) struct NewRejected {
    pub(super) home_id: HomeId,
    pub(super) topic: String,
    pub(super) reason: &'static str,
    pub(super) payload_preview: String,
    pub(super) received_at: DateTime<Utc>,
}

/// Keeps rejected messages; one whose home is gone is left out.
pub(super) async fn keep_rejected(conn: &AsyncPgConnection, rejected: &[NewRejected]) -> QueryResult<()> {
    if rejected.is_empty() {
        return Ok(());
    }
    use crate::db::schema::homes;
    let ids: Vec<HomeId> = rejected.iter().map(|message| message.home_id).collect();
    let there: Vec<HomeId> =
        homes::table.filter(homes::id.eq_any(ids)).select(homes::id).for_key_share().load(&mut &*conn).await?;
    let kept: Vec<NewRejected> = rejected.iter().filter(|message| there.contains(&message.home_id)).cloned().collect();
    diesel::insert_into(rejected_messages::table).values(kept).execute(&mut &*conn).await?;
    Ok(())
}

/// Remembers what was committed under which packet ids of this broker session.
pub(super) async fn remember(conn: &AsyncPgConnection, client_id: &str, packets: &[Packet]) -> QueryResult<i64> {
    let ids: Vec<i32> = packets.iter().map(|packet| i32::from(packet.id)).collect();
    let digests: Vec<i64> = packets.iter().map(|packet| packet.digest).collect();
    diesel::insert_into(mqtt_deliveries::table)
        .values((
            mqtt_deliveries::client_id.eq(client_id),
            mqtt_deliveries::packet_ids.eq(ids),
            mqtt_deliveries::digests.eq(digests),
        ))
        .returning(mqtt_deliveries::id)
        .get_result(&mut &*conn)
        .await
}

/// The broker session is gone: its packet ids mean nothing any more.
pub(super) async fn forget(conn: &AsyncPgConnection, client_id: &str) -> QueryResult<()> {
    diesel::delete(mqtt_deliveries::table.filter(mqtt_deliveries::client_id.eq(client_id)))
        .execute(&mut &*conn)
        .await?;
    Ok(())
}

/// Forgets everything up to a delivery that is covered by newer ones.
pub(super) async fn prune(conn: &AsyncPgConnection, client_id: &str, up_to: i64) -> QueryResult<()> {
    let covered =
        mqtt_deliveries::table.filter(mqtt_deliveries::client_id.eq(client_id)).filter(mqtt_deliveries::id.le(up_to));
    diesel::delete(covered).execute(&mut &*conn).await?;
    Ok(())
}

/// What was committed in the present session, oldest first: `(row, packet ids, digests)`.
pub(super) async fn recall(
    conn: &mut AsyncPgConnection,
    client_id: &str,
) -> QueryResult<Vec<(i64, Vec<i32>, Vec<i64>)>> {
    let mut rows: Vec<(i64, Vec<i32>, Vec<i64>)> = mqtt_deliveries::table
        .filter(mqtt_deliveries::client_id.eq(client_id))
        .order(mqtt_deliveries::id.desc())
        .limit(MAX_DELIVERIES)
        .select((mqtt_deliveries::id, mqtt_deliveries::packet_ids, mqtt_deliveries::digests))
        .load(conn)
        .await?;
    rows.reverse();
    Ok(rows)
}
