//! The end of what is kept for sessions that the broker has deleted: the client ids of servers that do not come back.

use std::time::Duration;

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::session_store;
use crate::background::periodic;
use crate::db::Pool;
use crate::error::Error;
use crate::latch::Latch;

/// Hours after the last use of a session. The broker deletes a session after seven days without a connection
/// (`mqtt/options.rs`).
const MAX_UNUSED_HOURS: i32 = 8 * 24;
/// Sessions deleted in one run, so that it ends.
const MAX_DELETED: usize = 1_000;
/// Interval between two runs.
const CLEAN_EVERY: Duration = Duration::from_secs(3_600);

/// Deletes every hour what is kept for sessions that are not used any more. The first time is an hour after the start:
/// by then this server uses its session again. Several servers may do so at once.
pub async fn run_session_retention(pool: Pool, migrated: Latch, stop: CancellationToken) {
    if stop.run_until_cancelled(sleep(CLEAN_EVERY)).await.is_some() {
        let name = "the deletion of sessions that are not used";
        periodic(name, CLEAN_EVERY, migrated, stop, || delete_unused_sessions(&pool)).await;
    }
}

/// Notes which sessions are used, and deletes what is kept for those that were not for more than eight days.
pub async fn delete_unused_sessions(pool: &Pool) -> Result<(), Error> {
    session_store::mark_used(&mut *pool.get().await?).await?;
    for _ in 0..MAX_DELETED {
        if session_store::delete_unused(&mut *pool.get().await?, MAX_UNUSED_HOURS).await? == 0 {
            break;
        }
    }
    Ok(())
}
