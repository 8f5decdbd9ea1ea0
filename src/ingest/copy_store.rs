//! The transaction of a large batch of readings: they are copied into the table, for less than half of what an INSERT costs the
//! database. COPY fails where a reading exists, and this transaction where a device is deleted; then nothing of the batch
//! is written, and the ordinary transaction follows.
//!
//! It has a connection of its own, which holds none of the advisory locks that are the right to store. So it also fails
//! where this term has ended.

use std::ops::RangeInclusive;

use super::STATEMENT_TIMEOUT;
use crate::db::{ConnectError, CopyConnection, CopyError, locks};
use crate::ids::{DeviceId, TelemetryId};
use crate::mqtt::Packet;
use crate::settings::DatabaseSettings;
use crate::telemetry::{self, NewReading};

const BEGIN: &str = "begin";
const COMMIT: &str = "commit";
const HOLD_TERM: &str = include_str!("sql/hold_term.sql");
const COUNT_DEVICES: &str = include_str!("sql/count_devices.sql");
const INSERT_PACKETS: &str = include_str!("sql/insert_all_packets.sql");
const DELETE_PACKETS: &str = include_str!("sql/delete_obsolete_packets.sql");

const STATEMENTS: [&str; 9] = [
    BEGIN,
    locks::TAKE_INGEST,
    HOLD_TERM,
    COUNT_DEVICES,
    telemetry::COPY,
    telemetry::LAST_ID,
    DELETE_PACKETS,
    INSERT_PACKETS,
    COMMIT,
];

/// The term in which a server stores.
pub(super) struct TermKey {
    pub(super) client_id: String,
    /// The prefix of a plain subscription.
    pub(super) plain_prefix: Option<String>,
    pub(super) number: i64,
}

/// What is written for a batch.
pub(super) struct Copied<'a> {
    pub(super) readings: &'a [&'a NewReading],
    /// The devices of all messages, each once.
    pub(super) devices: Vec<i64>,
    pub(super) packets: &'a [(Packet, Option<DeviceId>)],
    /// The rows of packets that are obsolete, to be deleted.
    pub(super) obsolete: Option<RangeInclusive<i64>>,
}

/// What was committed.
pub(super) struct CopiedIds {
    /// Of the readings, in their order.
    pub(super) readings: Vec<TelemetryId>,
    /// The row of the packets.
    pub(super) packets_row: Option<i64>,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum CopyFailure {
    #[error(transparent)]
    Database(#[from] CopyError),
    #[error("the database can't be reached: {0}")]
    NoConnection(#[from] ConnectError),
    #[error("the term has ended")]
    OtherTerm,
    #[error("a device was deleted")]
    DeletedDevice,
    #[error("the rows have other ids than expected")]
    UnknownIds,
}

pub(super) async fn open(settings: &DatabaseSettings) -> Result<CopyConnection, CopyFailure> {
    Ok(CopyConnection::open(settings, STATEMENT_TIMEOUT, &STATEMENTS).await?)
}

/// Commits the batch. After an error the connection must be dropped, which rolls the transaction back. The answer to the
/// commit may have been lost then.
pub(super) async fn copy(conn: &CopyConnection, term: &TermKey, batch: &Copied<'_>) -> Result<CopiedIds, CopyFailure> {
    let rows = telemetry::rows(batch.readings);
    // Sent in this order, see `RunningWriter::write`; in two round trips, because the driver waits until the database asks for
    // the rows.
    let (begun, locked, holds_term, n_devices, before, copy) = futures_util::join!(
        conn.execute(BEGIN, &[]),
        conn.execute(locks::TAKE_INGEST, &[]),
        hold_term(conn, term),
        count_devices(conn, &batch.devices),
        conn.value::<i64>(telemetry::LAST_ID, &[]),
        conn.begin_copy(telemetry::COPY),
    );
    begun.and(locked)?;
    if !holds_term? {
        return Err(CopyFailure::OtherTerm);
    }
    // A device never moves to another home, so its id says enough.
    if n_devices? != batch.devices.len() as i64 {
        return Err(CopyFailure::DeletedDevice);
    }
    let (before, copy) = (before?, copy?);
    let (copied, last, deleted, packets_row, committed) = futures_util::join!(
        copy.finish(rows),
        conn.value::<i64>(telemetry::LAST_ID, &[]),
        delete_packets(conn, term, batch.obsolete.as_ref()),
        insert_packets(conn, term, batch.packets),
        conn.execute(COMMIT, &[]),
    );
    // Each error comes before those that follow from it.
    let (n_rows, _) = (copied?, deleted?);
    let (last, packets_row) = (last?, packets_row?);
    committed?;
    // The ingest lock keeps others from taking ids meanwhile. Where somebody did without it, the ordinary transaction looks
    // the ids up.
    let n_readings = batch.readings.len();
    if n_rows != n_readings as u64 || last - before != n_readings as i64 {
        return Err(CopyFailure::UnknownIds);
    }
    Ok(CopiedIds { readings: (before + 1..=last).map(TelemetryId::from_database).collect(), packets_row })
}

async fn hold_term(conn: &CopyConnection, term: &TermKey) -> Result<bool, CopyError> {
    let n_terms: i64 = conn.value(HOLD_TERM, &[&term.client_id, &term.number, &term.plain_prefix]).await?;
    Ok(n_terms == 1)
}

async fn count_devices(conn: &CopyConnection, devices: &[i64]) -> Result<i64, CopyError> {
    conn.value(COUNT_DEVICES, &[&devices]).await
}

async fn delete_packets(
    conn: &CopyConnection,
    term: &TermKey,
    rows: Option<&RangeInclusive<i64>>,
) -> Result<u64, CopyError> {
    match rows {
        Some(rows) => conn.execute(DELETE_PACKETS, &[&term.client_id, rows.start(), rows.end()]).await,
        None => Ok(0),
    }
}

async fn insert_packets(
    conn: &CopyConnection,
    term: &TermKey,
    packets: &[(Packet, Option<DeviceId>)],
) -> Result<Option<i64>, CopyError> {
    if packets.is_empty() {
        return Ok(None);
    }
    let ids: Vec<i32> = packets.iter().map(|(packet, _)| i32::from(packet.id)).collect();
    let digests: Vec<i64> = packets.iter().map(|(packet, _)| packet.message_digest).collect();
    conn.value(INSERT_PACKETS, &[&term.client_id, &ids, &digests]).await.map(Some)
}
