//! The retention of the log: expired entries are deleted, and those of deleted homes.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::store;
use crate::background::periodic;
use crate::db::Pool;
use crate::error::Error;
use crate::ids::HomeId;
use crate::latch::Latch;

/// Entries deleted in one statement: few enough to stay below the statement timeout.
const CHUNK: u16 = 10_000;
/// Limit of the statements in one cleaning that delete expired entries, so that it ends.
const MAX_CHUNKS: usize = 1_000;
/// Limit of the interrupted deletions that one cleaning completes.
const MAX_DELETED_HOMES: i64 = 1_000;
/// Interval between two cleanings.
const CLEAN_EVERY: Duration = Duration::from_secs(3600);

/// Cleans the log every hour, from the migration of the database until the stop. Several servers may do so at once.
pub async fn run_retention(pool: Pool, migrated: Latch, stop: CancellationToken) {
    periodic("the retention of the audit log", CLEAN_EVERY, migrated, stop, || delete_expired(&pool)).await;
}

/// Deletes expired entries and those of deleted homes, in chunks.
pub async fn delete_expired(pool: &Pool) -> Result<(), Error> {
    for _ in 0..MAX_CHUNKS {
        let mut conn = pool.get().await?;
        if store::delete_expired(&mut conn, CHUNK.into()).await? < CHUNK.into() {
            break;
        }
    }
    let deleted_homes = {
        let mut conn = pool.get().await?;
        store::find_deleted_homes(&mut conn, MAX_DELETED_HOMES).await?
    };
    for home in deleted_homes {
        delete_home_log(pool, home).await?;
    }
    Ok(())
}

/// Deletes the entries of a deleted home, in chunks.
pub async fn delete_home_log(pool: &Pool, home: HomeId) -> Result<(), Error> {
    loop {
        let mut conn = pool.get().await?;
        if store::delete_home_log(&mut conn, home, CHUNK.into()).await? < CHUNK.into() {
            return Ok(());
        }
    }
}
