//! SQL of ingest's own tables: deliveries of the broker session, rejected messages.

use chrono::{DateTime, Utc};
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::sql_types::{Array, BigInt, Integer, Nullable, Text, Timestamptz};
use diesel_async::{AsyncConnectionCore, AsyncPgConnection, RunQueryDsl};

use super::retention::{MAX_DELETED, MAX_KEPT};
use crate::db::locks;
use crate::db::schema::{broker_losses, broker_sessions, mqtt_deliveries};
use crate::ids::{DeviceId, HomeId};
use crate::mqtt::Packet;

/// Deliveries kept: one for each packet id of the protocol.
const MAX_DELIVERIES: i64 = 65_535;

/// A statement without parameters, prepared once. It goes the same way as every other statement of
/// the batch, so that they reach the server in the order in which they are first polled: a plain
/// `batch_execute` could overtake one that still waits to be prepared.
macro_rules! fixed {
    ($(#[$doc:meta])* $function:ident, $name:ident, $sql:expr) => {
        struct $name;

        impl QueryFragment<Pg> for $name {
            fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
                out.push_sql($sql);
                Ok(())
            }
        }

        impl QueryId for $name {
            type QueryId = Self;
            const HAS_STATIC_QUERY_ID: bool = true;
        }

        $(#[$doc])*
        pub(super) async fn $function(conn: &AsyncPgConnection) -> QueryResult<()> {
            AsyncConnectionCore::execute_returning_count(&mut &*conn, $name).await.map(drop)
        }
    };
}

fixed! {
    /// Opens the batch's transaction.
    begin, Begin, "begin"
}
fixed! {
    /// Waits for the ingest gate, for the rest of the transaction.
    pass_gate, PassGate, crate::db::locks::TAKE_INGEST
}
fixed! {
    /// Undoes the transaction.
    roll_back, RollBack, "rollback"
}
fixed! {
    /// Ends the transaction. If a statement before it failed this rolls back, and that one's error tells.
    commit, Commit, "commit"
}

/// A rejected message that is kept for the admins of the home it named.
#[derive(Debug)]
pub(super) struct NewRejected {
    pub(super) home_id: HomeId,
    pub(super) topic: String,
    pub(super) reason: &'static str,
    pub(super) payload_preview: String,
    pub(super) received_at: DateTime<Utc>,
}

/// One column per field of the messages to keep.
#[derive(Default)]
struct Keep<const IS_RETRY: bool> {
    home: Vec<i64>,
    topic: Vec<String>,
    reason: Vec<&'static str>,
    preview: Vec<String>,
    received_at: Vec<DateTime<Utc>>,
}

impl<const IS_RETRY: bool> QueryFragment<Pg> for Keep<IS_RETRY> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql(
            "insert into rejected_messages (home_id, topic, reason, payload_preview, received_at)
             select n.* from unnest(",
        );
        out.push_bind_param::<Array<BigInt>, _>(&self.home)?;
        out.push_sql(", ");
        out.push_bind_param::<Array<Text>, _>(&self.topic)?;
        out.push_sql(", ");
        out.push_bind_param::<Array<Text>, _>(&self.reason)?;
        out.push_sql(", ");
        out.push_bind_param::<Array<Text>, _>(&self.preview)?;
        out.push_sql(", ");
        out.push_bind_param::<Array<Timestamptz>, _>(&self.received_at)?;
        out.push_sql(
            ") n (home_id, topic, reason, preview, received_at)
             where exists (select from homes h where h.id = n.home_id)",
        );
        if IS_RETRY {
            // An attempt whose answer was lost may have kept them.
            out.push_sql(
                " and not exists (select from rejected_messages r where r.home_id = n.home_id
                    and r.received_at = n.received_at and r.topic = n.topic)",
            );
        }
        Ok(())
    }
}

impl<const IS_RETRY: bool> QueryId for Keep<IS_RETRY> {
    type QueryId = Self;
    const HAS_STATIC_QUERY_ID: bool = true;
}

/// Keeps rejected messages; one whose home is gone is left out.
pub(super) async fn keep_rejected(
    conn: &AsyncPgConnection,
    rejected: impl Iterator<Item = &NewRejected>,
    is_retry: bool,
) -> QueryResult<()> {
    if is_retry { keep::<true>(conn, rejected).await } else { keep::<false>(conn, rejected).await }
}

async fn keep<const IS_RETRY: bool>(
    conn: &AsyncPgConnection,
    rejected: impl Iterator<Item = &NewRejected>,
) -> QueryResult<()> {
    let mut keep = Keep::<IS_RETRY>::default();
    for message in rejected {
        keep.home.push(message.home_id.get());
        keep.topic.push(message.topic.clone());
        keep.reason.push(message.reason);
        keep.preview.push(message.payload_preview.clone());
        keep.received_at.push(message.received_at);
    }
    if keep.home.is_empty() {
        return Ok(());
    }
    AsyncConnectionCore::execute_returning_count(&mut &*conn, keep).await.map(drop)
}

/// The homes whose oldest rejected messages go.
struct Prune {
    homes: Vec<i64>,
}

impl QueryFragment<Pg> for Prune {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql("delete from rejected_messages where id in (select oldest.id from unnest(");
        out.push_bind_param::<Array<BigInt>, _>(&self.homes)?;
        // The edge is looked for once per home: as a condition it would be for every row.
        out.push_sql(
            ") due (home_id) cross join lateral (select id from rejected_messages m
             where m.home_id = due.home_id order by id desc limit 1 offset ",
        );
        out.push_bind_param::<BigInt, _>(&MAX_KEPT)?;
        out.push_sql(
            ") edge cross join lateral (select id from rejected_messages m
             where m.home_id = due.home_id and m.id <= edge.id order by id limit ",
        );
        out.push_bind_param::<BigInt, _>(&MAX_DELETED)?;
        out.push_sql(") oldest)");
        Ok(())
    }
}

impl QueryId for Prune {
    type QueryId = Self;
    const HAS_STATIC_QUERY_ID: bool = true;
}

/// Deletes the oldest rejected messages of homes that have too many, and says how many went.
pub(super) async fn prune_rejected(conn: &AsyncPgConnection, homes: &[HomeId]) -> QueryResult<usize> {
    if homes.is_empty() {
        return Ok(0);
    }
    let homes = homes.iter().map(|home| home.get()).collect();
    AsyncConnectionCore::execute_returning_count(&mut &*conn, Prune { homes }).await
}

/// One column per field of the deliveries to remember.
#[derive(Default)]
struct Remember<'a> {
    client_id: &'a str,
    ids: Vec<i32>,
    digests: Vec<i64>,
    devices: Vec<Option<i64>>,
}

impl QueryFragment<Pg> for Remember<'_> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql("insert into mqtt_deliveries (client_id, packet_ids, digests) select ");
        out.push_bind_param::<Text, _>(self.client_id)?;
        out.push_sql(
            ", coalesce(array_agg(n.id order by n.position), '{}'),
                coalesce(array_agg(n.digest order by n.position), '{}')
             from unnest(",
        );
        out.push_bind_param::<Array<Integer>, _>(&self.ids)?;
        out.push_sql(", ");
        out.push_bind_param::<Array<BigInt>, _>(&self.digests)?;
        out.push_sql(", ");
        out.push_bind_param::<Array<Nullable<BigInt>>, _>(&self.devices)?;
        out.push_sql(
            ") with ordinality n (id, digest, device_id, position)
             left join devices d on d.id = n.device_id
             where n.device_id is null or d.id is not null
             returning id",
        );
        Ok(())
    }
}

impl QueryId for Remember<'_> {
    type QueryId = Remember<'static>;
    const HAS_STATIC_QUERY_ID: bool = true;
}

impl Query for Remember<'_> {
    type SqlType = BigInt;
}

/// Remembers what was committed under which packet ids of this broker session, save what was of a device
/// that is no more.
pub(super) async fn remember(
    conn: &AsyncPgConnection,
    client_id: &str,
    packets: &[(Packet, Option<DeviceId>)],
) -> QueryResult<i64> {
    let mut remember = Remember { client_id, ..Remember::default() };
    for (packet, device) in packets {
        remember.ids.push(i32::from(packet.id));
        remember.digests.push(packet.message_digest);
        remember.devices.push(device.map(DeviceId::get));
    }
    remember.get_result(&mut &*conn).await
}

/// The broker session is gone: its packet ids mean nothing any more.
pub(super) async fn forget(conn: &AsyncPgConnection, client_id: &str) -> QueryResult<()> {
    diesel::delete(mqtt_deliveries::table.filter(mqtt_deliveries::client_id.eq(client_id)))
        .execute(&mut &*conn)
        .await?;
    Ok(())
}

/// From now on the broker keeps a session for us.
pub(super) async fn keep_session(conn: &AsyncPgConnection, client_id: &str) -> QueryResult<()> {
    diesel::insert_into(broker_sessions::table)
        .values((broker_sessions::client_id.eq(client_id), broker_sessions::since.eq(diesel::dsl::now)))
        .on_conflict(broker_sessions::client_id)
        .do_update()
        .set(broker_sessions::since.eq(diesel::dsl::now))
        .execute(&mut &*conn)
        .await?;
    Ok(())
}

/// The broker lost what it was given up to this time: each outbox is to know, also after a crash.
pub(super) async fn note_loss(
    conn: &AsyncPgConnection,
    client_id: &str,
    outboxes: &[&'static str],
    before: DateTime<Utc>,
) -> QueryResult<()> {
    use broker_losses as losses;
    use diesel::upsert::excluded;

    if outboxes.is_empty() {
        return Ok(());
    }
    let rows: Vec<_> = outboxes
        .iter()
        .map(|outbox| (losses::client_id.eq(client_id), losses::outbox.eq(*outbox), losses::before.eq(before)))
        .collect();
    diesel::insert_into(losses::table)
        .values(rows)
        .on_conflict((losses::client_id, losses::outbox))
        .do_update()
        .set(losses::before.eq(excluded(losses::before)))
        .execute(&mut &*conn)
        .await?;
    Ok(())
}

/// Whether the broker ever kept a session for us.
pub(super) async fn has_session(conn: &mut AsyncPgConnection, client_id: &str) -> QueryResult<bool> {
    let known = broker_sessions::table.filter(broker_sessions::client_id.eq(client_id));
    diesel::select(diesel::dsl::exists(known)).get_result(conn).await
}

/// Forgets everything up to a delivery that is covered by newer ones.
pub(super) async fn prune(conn: &AsyncPgConnection, client_id: &str, up_to: i64) -> QueryResult<()> {
    let covered =
        mqtt_deliveries::table.filter(mqtt_deliveries::client_id.eq(client_id)).filter(mqtt_deliveries::id.le(up_to));
    diesel::delete(covered).execute(&mut &*conn).await?;
    Ok(())
}

/// Whether this connection may store for the client id's session: at most one at a time, for as long
/// as it is open.
pub(super) async fn lease(conn: &mut AsyncPgConnection, client_id: &str) -> QueryResult<bool> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = diesel::sql_types::Bool)]
        leased: bool,
    }
    let query = diesel::sql_query(format!("select pg_try_advisory_lock({}, hashtext($1)) as leased", locks::WRITER));
    let row: Row = query.bind::<Text, _>(client_id).get_result(conn).await?;
    Ok(row.leased)
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
