//! SQL of ingest's own tables: rejected messages, packets of the broker session.

use std::ops::RangeInclusive;

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Bool, Integer, Nullable, Text, Timestamptz, Untyped};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use super::rejection_recorder::NewRejected;
use super::retention::{MAX_DELETED, MAX_KEPT};
use crate::db::schema::{broker_losses, broker_sessions, committed_packets};
use crate::db::{locks, statement};
use crate::ids::{DeviceId, HomeId};
use crate::mqtt::Packet;

/// Rows of `committed_packets` loaded at the start, one for a batch. A row has at least one packet, so these hold the
/// newest message of each packet id.
const MAX_PACKET_ROWS: i64 = 65_535;

// Prepared like every other statement of a batch: `batch_execute` would send them unprepared, and they could
// overtake a statement that still waits to be prepared.
statement! { struct Begin = "begin" }
statement! { struct TakeIngestLock = locks::TAKE_INGEST }
statement! { struct RollBack = "rollback" }
statement! { struct Commit = "commit" }

/// Opens the batch's transaction.
pub(super) async fn begin(conn: &AsyncPgConnection) -> QueryResult<()> {
    Begin.execute(&mut &*conn).await.map(drop)
}

/// Takes the ingest lock until the end of the transaction.
pub(super) async fn acquire_ingest_lock(conn: &AsyncPgConnection) -> QueryResult<()> {
    TakeIngestLock.execute(&mut &*conn).await.map(drop)
}

pub(super) async fn roll_back(conn: &AsyncPgConnection) -> QueryResult<()> {
    RollBack.execute(&mut &*conn).await.map(drop)
}

/// Commits the transaction. PostgreSQL rolls it back instead if a statement before it failed; that
/// statement's error is the cause.
pub(super) async fn commit(conn: &AsyncPgConnection) -> QueryResult<()> {
    Commit.execute(&mut &*conn).await.map(drop)
}

statement! {
    struct InsertRejected<'a>("sql/insert_rejected.sql") -> Untyped {
        home_ids: Array<BigInt> = Vec<i64>,
        topics: Array<Text> = Vec<&'a str>,
        reasons: Array<Text> = Vec<&'static str>,
        previews: Array<Text> = Vec<&'a str>,
        received_at: Array<Timestamptz> = Vec<DateTime<Utc>>,
    }
}

statement! {
    struct InsertRejectedAgain<'a>("sql/insert_rejected_again.sql") -> Untyped {
        home_ids: Array<BigInt> = Vec<i64>,
        topics: Array<Text> = Vec<&'a str>,
        reasons: Array<Text> = Vec<&'static str>,
        previews: Array<Text> = Vec<&'a str>,
        received_at: Array<Timestamptz> = Vec<DateTime<Utc>>,
    }
}

/// Stores rejected messages. A retry leaves out those that an earlier attempt committed.
pub(super) async fn insert_rejected(
    conn: &AsyncPgConnection,
    rejected: impl Iterator<Item = &NewRejected>,
    is_retry: bool,
) -> QueryResult<()> {
    let (mut home_ids, mut topics, mut reasons) = (Vec::new(), Vec::new(), Vec::new());
    let (mut previews, mut received_at) = (Vec::new(), Vec::new());
    for message in rejected {
        home_ids.push(message.home_id.get());
        topics.push(&*message.topic);
        reasons.push(message.reason.as_str());
        previews.push(&*message.payload_preview);
        received_at.push(message.received_at);
    }
    if home_ids.is_empty() {
        return Ok(());
    }
    if is_retry {
        let insert = InsertRejectedAgain { home_ids, topics, reasons, previews, received_at };
        insert.execute(&mut &*conn).await?;
    } else {
        let insert = InsertRejected { home_ids, topics, reasons, previews, received_at };
        insert.execute(&mut &*conn).await?;
    }
    Ok(())
}

statement! {
    struct PruneRejected("sql/prune_rejected.sql") -> Untyped {
        home_ids: Array<BigInt> = Vec<i64>,
        max_kept: BigInt = i64,
        max_deleted: BigInt = i64,
    }
}

/// Deletes the oldest rejected messages of homes that have too many, and returns their number.
pub(super) async fn prune_rejected(conn: &AsyncPgConnection, homes: &[HomeId]) -> QueryResult<usize> {
    if homes.is_empty() {
        return Ok(0);
    }
    let home_ids = homes.iter().map(|home| home.get()).collect();
    PruneRejected { home_ids, max_kept: MAX_KEPT, max_deleted: MAX_DELETED }.execute(&mut &*conn).await
}

statement! {
    struct InsertPackets<'a>("sql/insert_packets.sql") -> BigInt {
        client_id: Text = &'a str,
        packet_ids: Array<Integer> = Vec<i32>,
        digests: Array<BigInt> = Vec<i64>,
        device_ids: Array<Nullable<BigInt>> = Vec<Option<i64>>,
    }
}

/// Records the packets of a batch, except those of devices that were deleted meanwhile; returns the row's id, if there is one.
pub(super) async fn insert_packets(
    conn: &AsyncPgConnection,
    client_id: &str,
    packets: &[(Packet, Option<DeviceId>)],
) -> QueryResult<Option<i64>> {
    let insert = InsertPackets {
        client_id,
        packet_ids: packets.iter().map(|(packet, _)| i32::from(packet.id)).collect(),
        digests: packets.iter().map(|(packet, _)| packet.message_digest).collect(),
        device_ids: packets.iter().map(|(_, device)| device.map(DeviceId::get)).collect(),
    };
    insert.get_result(&mut &*conn).await.optional()
}

/// Deletes all packets of a lost broker session.
pub(super) async fn delete_packets(conn: &AsyncPgConnection, client_id: &str) -> QueryResult<()> {
    let all = committed_packets::table.filter(committed_packets::client_id.eq(client_id));
    diesel::delete(all).execute(&mut &*conn).await.map(drop)
}

statement! {
    struct DeleteObsoletePackets<'a>("sql/delete_obsolete_packets.sql") -> Untyped {
        client_id: Text = &'a str,
        first: BigInt = i64,
        last: BigInt = i64,
    }
}

/// Deletes the rows of packets whose ids were all used again since.
pub(super) async fn delete_obsolete_packets(
    conn: &AsyncPgConnection,
    client_id: &str,
    rows: RangeInclusive<i64>,
) -> QueryResult<()> {
    let (first, last) = rows.into_inner();
    DeleteObsoletePackets { client_id, first, last }.execute(&mut &*conn).await.map(drop)
}

/// Notes that the broker keeps a session for us from now on.
pub(super) async fn upsert_session(conn: &AsyncPgConnection, client_id: &str) -> QueryResult<()> {
    diesel::insert_into(broker_sessions::table)
        .values((broker_sessions::client_id.eq(client_id), broker_sessions::since.eq(diesel::dsl::now)))
        .on_conflict(broker_sessions::client_id)
        .do_update()
        .set(broker_sessions::since.eq(diesel::dsl::now))
        .execute(&mut &*conn)
        .await
        .map(drop)
}

/// Notes for each outbox that the broker may have lost messages it took before a time.
pub(super) async fn upsert_losses(
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
        .await
        .map(drop)
}

statement! {
    struct HadSession<'a>("sql/had_session.sql") -> Bool {
        writer_class: Integer = i32,
        client_id: Text = &'a str,
        group_prefix: Nullable<Text> = Option<&'a str>,
    }
}

/// Whether the broker has kept a session before, for this server or for its group.
pub(super) async fn had_session(
    conn: &mut AsyncPgConnection,
    client_id: &str,
    group_prefix: Option<&str>,
) -> QueryResult<bool> {
    HadSession { writer_class: locks::WRITER, client_id, group_prefix }.get_result(conn).await
}

/// The packets of the present session, oldest first: `(row, packet ids, digests)`.
pub(super) async fn load_packets(
    conn: &mut AsyncPgConnection,
    client_id: &str,
) -> QueryResult<Vec<(i64, Vec<i32>, Vec<i64>)>> {
    let mut rows: Vec<(i64, Vec<i32>, Vec<i64>)> = committed_packets::table
        .filter(committed_packets::client_id.eq(client_id))
        .order(committed_packets::id.desc())
        .limit(MAX_PACKET_ROWS)
        .select((committed_packets::id, committed_packets::packet_ids, committed_packets::digests))
        .load(conn)
        .await?;
    rows.reverse();
    Ok(rows)
}
