//! SQL of deletions: what is noted, and what goes piece by piece.

use diesel::prelude::*;
use diesel::sql_types::BigInt;
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use crate::db::schema::deletions;
use crate::ids::{DeviceId, HomeId};

/// Rows deleted in one statement, so that none outlasts its time-out.
const CHUNK: i64 = 10_000;

/// A deletion that is decided and of which something may be left.
#[derive(Debug, Clone, Copy, Queryable)]
pub(crate) struct Deletion {
    id: i64,
    home: HomeId,
    device: Option<DeviceId>,
}

const COLUMNS: (deletions::id, deletions::home_id, deletions::device_id) =
    (deletions::id, deletions::home_id, deletions::device_id);

/// Notes that all of a home, or of one device of it, is to go. In the transaction that decides it.
pub(crate) async fn note(
    conn: &mut AsyncPgConnection,
    home: HomeId,
    device: Option<DeviceId>,
) -> QueryResult<Deletion> {
    if device.is_none() {
        // All of a home is its devices' too. So no two deletions are ever of the same rows.
        diesel::delete(deletions::table.filter(deletions::home_id.eq(home))).execute(conn).await?;
    }
    diesel::insert_into(deletions::table)
        .values((deletions::home_id.eq(home), deletions::device_id.eq(device)))
        .returning(COLUMNS)
        .get_result(conn)
        .await
}

/// Up to `limit` of them, the oldest first.
pub(super) async fn pending(conn: &mut AsyncPgConnection, limit: i64) -> QueryResult<Vec<Deletion>> {
    deletions::table.order(deletions::id).limit(limit).select(COLUMNS).load(conn).await
}

/// Holds the deletion to the end of the transaction: one who sweeps at a time. False where another one has
/// ended it.
async fn hold(conn: &mut AsyncPgConnection, deletion: Deletion) -> QueryResult<bool> {
    let row = deletions::table.find(deletion.id).select(deletions::id).for_update();
    Ok(row.first::<i64>(conn).await.optional()?.is_some())
}

/// A table that may hold much of what is deleted.
#[derive(Debug, Clone, Copy)]
pub(super) enum Remains {
    Readings,
    RejectedMessages,
    Commands,
    Configs,
}

impl Deletion {
    /// What there may be left of it.
    pub(super) fn remains(self) -> &'static [Remains] {
        match self.device {
            Some(_) => &[Remains::Readings],
            None => &[Remains::Readings, Remains::RejectedMessages, Remains::Commands, Remains::Configs],
        }
    }
}

/// The condition on about [`CHUNK`] of the owner's ($1) oldest rows: a range of the index on the two columns.
/// With both its ends the planner takes it for small, whatever share of the table is the owner's.
fn oldest(table: &str, owner: &str, by: &str) -> String {
    let end = |of: &str| {
        format!(
            "(select {of}({by}) from (select {by} from {table} where {owner} = $1 order by {by} limit {CHUNK}) oldest)"
        )
    };
    format!("{owner} = $1 and {by} >= {} and {by} <= {}", end("min"), end("max"))
}

impl Remains {
    /// Deletes some of the home's rows.
    fn of_home(self) -> String {
        let delete = |table, by| format!("delete from {table} where {}", oldest(table, "home_id", by));
        match self {
            Self::Readings => delete("telemetry", "id"),
            Self::RejectedMessages => delete("rejected_messages", "id"),
            Self::Configs => delete("device_configs", "updated_at"),
            // Still ended by the clock, which locks them in this order too.
            Self::Commands => format!(
                "with going as materialized (select id from commands where {} order by id for update) \
                 delete from commands where id = any(array(select id from going))",
                oldest("commands", "home_id", "updated_at")
            ),
        }
    }
}

/// Deletes some of what is left, and says how many rows went; none where nothing is left. `None` where
/// another one has ended the deletion.
pub(super) async fn delete_some(
    conn: &mut AsyncPgConnection,
    deletion: Deletion,
    of: Remains,
) -> QueryResult<Option<usize>> {
    if !hold(conn, deletion).await? {
        return Ok(None);
    }
    let Deletion { home, device, .. } = deletion;
    let n_deleted = match device {
        None => diesel::sql_query(of.of_home()).bind::<BigInt, _>(home).execute(conn).await?,
        Some(device) => {
            // Of one device everything else has gone with its row. The key begins with the device.
            let readings = format!(
                "delete from telemetry where {} and home_id = $2",
                oldest("telemetry", "device_id", "recorded_at")
            );
            diesel::sql_query(readings).bind::<BigInt, _>(device).bind::<BigInt, _>(home).execute(conn).await?
        }
    };
    Ok(Some(n_deleted))
}

/// Nothing is left of it.
pub(super) async fn end(conn: &mut AsyncPgConnection, deletion: Deletion) -> QueryResult<()> {
    diesel::delete(deletions::table.find(deletion.id)).execute(conn).await.map(drop)
}
