//! SQL of deletions: the record of each, and the purge in chunks.

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Nullable, Untyped};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use crate::db::schema::deletions;
use crate::db::statement;
use crate::ids::{DeviceId, HomeId};

/// Rows deleted by one statement, which must stay below the statement timeout.
const CHUNK: i64 = 10_000;

/// A decided deletion whose purge may be incomplete.
#[derive(Debug, Clone, Copy, Queryable)]
pub(crate) struct Deletion {
    id: i64,
    home: HomeId,
    device: Option<DeviceId>,
}

const COLUMNS: (deletions::id, deletions::home_id, deletions::device_id) =
    (deletions::id, deletions::home_id, deletions::device_id);

statement! {
    struct RecordCleanups("sql/record_cleanups.sql") -> Untyped {
        home_id: BigInt = HomeId,
        device_id: Nullable<BigInt> = Option<DeviceId>,
    }
}

/// Records the deletion of a home, or of one of its devices, in the transaction that decides it: what is to be purged
/// here, and what the broker must delete.
pub(crate) async fn record(
    conn: &mut AsyncPgConnection,
    home: HomeId,
    device: Option<DeviceId>,
) -> QueryResult<Deletion> {
    if device.is_none() {
        // The home's deletion covers those of its devices: no two deletions purge the same rows.
        diesel::delete(deletions::table.filter(deletions::home_id.eq(home))).execute(conn).await?;
    }
    RecordCleanups { home_id: home, device_id: device }.execute(conn).await?;
    diesel::insert_into(deletions::table)
        .values((deletions::home_id.eq(home), deletions::device_id.eq(device)))
        .returning(COLUMNS)
        .get_result(conn)
        .await
}

/// Up to `limit` incomplete deletions, oldest first.
pub(super) async fn pending(conn: &mut AsyncPgConnection, limit: i64) -> QueryResult<Vec<Deletion>> {
    deletions::table.order(deletions::id).limit(limit).select(COLUMNS).load(conn).await
}

/// Locks the deletion until the end of the transaction, so that one server at a time purges. `false` if it is
/// complete already.
async fn lock(conn: &mut AsyncPgConnection, deletion: Deletion) -> QueryResult<bool> {
    let row = deletions::table.find(deletion.id).select(deletions::id).for_update();
    Ok(row.first::<i64>(conn).await.optional()?.is_some())
}

/// A large table whose rows are purged after the decision.
#[derive(Debug, Clone, Copy)]
pub(super) enum DeletedRows {
    Readings,
    ParkedReadings,
    RejectedMessages,
    Commands,
    Configs,
}

impl Deletion {
    pub(super) fn rows_to_purge(self) -> &'static [DeletedRows] {
        match self.device {
            // The decision has deleted everything else of a device.
            Some(_) => &[DeletedRows::ParkedReadings, DeletedRows::Readings],
            None => &[
                DeletedRows::ParkedReadings,
                DeletedRows::Readings,
                DeletedRows::RejectedMessages,
                DeletedRows::Commands,
                DeletedRows::Configs,
            ],
        }
    }
}

statement! {
    struct PurgeReadingsOfHome("sql/purge_readings_of_home.sql") -> Untyped { home_id: BigInt = HomeId, chunk: BigInt = i64 }
}
statement! {
    struct PurgeReadingsOfDevice("sql/purge_readings_of_device.sql") -> Untyped {
        home_id: BigInt = HomeId,
        device_id: BigInt = DeviceId,
        chunk: BigInt = i64,
    }
}
statement! {
    struct PurgeParkedOfHome("sql/purge_parked_of_home.sql") -> Untyped { home_id: BigInt = HomeId, chunk: BigInt = i64 }
}
statement! {
    struct PurgeParkedOfDevice("sql/purge_parked_of_device.sql") -> Untyped {
        home_id: BigInt = HomeId,
        device_id: BigInt = DeviceId,
        chunk: BigInt = i64,
    }
}
statement! {
    struct PurgeRejectedMessages("sql/purge_rejected_messages.sql") -> Untyped { home_id: BigInt = HomeId, chunk: BigInt = i64 }
}
statement! {
    struct PurgeCommands("sql/purge_commands.sql") -> Untyped { home_id: BigInt = HomeId, chunk: BigInt = i64 }
}
statement! {
    struct PurgeConfigs("sql/purge_configs.sql") -> Untyped { home_id: BigInt = HomeId, chunk: BigInt = i64 }
}

/// Deletes one chunk and returns the number of deleted rows: 0 when nothing is left, `None` if another server
/// completed the deletion.
pub(super) async fn delete_chunk(
    conn: &mut AsyncPgConnection,
    deletion: Deletion,
    rows: DeletedRows,
) -> QueryResult<Option<usize>> {
    if !lock(conn, deletion).await? {
        return Ok(None);
    }
    let (home_id, chunk) = (deletion.home, CHUNK);
    let n_deleted = match (rows, deletion.device) {
        (DeletedRows::Readings, Some(device_id)) => {
            PurgeReadingsOfDevice { home_id, device_id, chunk }.execute(conn).await?
        }
        (DeletedRows::Readings, None) => PurgeReadingsOfHome { home_id, chunk }.execute(conn).await?,
        (DeletedRows::ParkedReadings, Some(device_id)) => {
            PurgeParkedOfDevice { home_id, device_id, chunk }.execute(conn).await?
        }
        (DeletedRows::ParkedReadings, None) => PurgeParkedOfHome { home_id, chunk }.execute(conn).await?,
        (DeletedRows::RejectedMessages, _) => PurgeRejectedMessages { home_id, chunk }.execute(conn).await?,
        (DeletedRows::Commands, _) => PurgeCommands { home_id, chunk }.execute(conn).await?,
        (DeletedRows::Configs, _) => PurgeConfigs { home_id, chunk }.execute(conn).await?,
    };
    Ok(Some(n_deleted))
}

/// The purge is complete.
pub(super) async fn remove(conn: &mut AsyncPgConnection, deletion: Deletion) -> QueryResult<()> {
    diesel::delete(deletions::table.find(deletion.id)).execute(conn).await.map(drop)
}
