//! What goes out of the log: entries that are old enough, and those of homes that are no more.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::store;
use crate::db::Pool;
use crate::error::{Chain, Error};
use crate::ids::HomeId;

/// Entries deleted in one statement, so that none outlasts its time-out.
const CHUNK: usize = 10_000;
/// Statements of one cleaning that delete old entries, so that it ends.
const MAX_CHUNKS: usize = 1_000;
/// Interrupted deletions that one cleaning makes good.
const MAX_GONE: i64 = 1_000;
/// Pause between two cleanings.
const CLEAN_EVERY: Duration = Duration::from_secs(3600);

/// Cleans every now and then until the stop, from when the database has its tables. Several servers may do
/// so at once.
pub async fn run_retention(pool: Pool, migrated: CancellationToken, stop: CancellationToken) {
    let cleaning = async {
        migrated.cancelled().await;
        loop {
            if let Err(error) = delete_expired(&pool).await {
                tracing::warn!(error = %Chain(&error), "the audit log can't be cleaned; trying again later");
            }
            tokio::time::sleep(CLEAN_EVERY).await;
        }
    };
    stop.run_until_cancelled(cleaning).await;
}

/// Deletes what is to go now, so much at a time.
pub async fn delete_expired(pool: &Pool) -> Result<(), Error> {
    for _ in 0..MAX_CHUNKS {
        let mut conn = pool.get().await?;
        if store::delete_old(&mut conn, CHUNK).await? < CHUNK {
            break;
        }
    }
    let gone = {
        let mut conn = pool.get().await?;
        store::gone(&mut conn, MAX_GONE).await?
    };
    for home in gone {
        delete_home_log(pool, home).await?;
    }
    Ok(())
}

/// Deletes the entries of a home that is gone.
pub async fn delete_home_log(pool: &Pool, home: HomeId) -> Result<(), Error> {
    loop {
        let mut conn = pool.get().await?;
        if store::delete(&mut conn, home, CHUNK).await? < CHUNK {
            return Ok(());
        }
    }
}
