//! What goes out of the sessions by itself: tokens past their end, whoever never signs in again.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::{Users, store};
use crate::error::{Chain, Error};

/// Tokens deleted in one statement, so that none outlasts its time-out.
const CHUNK: usize = 10_000;
/// Statements of one cleaning, so that it ends.
const MAX_CHUNKS: usize = 1_000;
/// Pause between two cleanings.
const CLEAN_EVERY: Duration = Duration::from_secs(3600);

impl Users {
    /// Cleans every now and then until the stop, from when the database has its tables. Several servers
    /// may do so at once.
    pub async fn keep(self, migrated: CancellationToken, stop: CancellationToken) {
        let cleaning = async {
            migrated.cancelled().await;
            loop {
                if let Err(error) = self.clean().await {
                    tracing::warn!(error = %Chain(&error), "old sessions can't be cleaned up; trying again later");
                }
                tokio::time::sleep(CLEAN_EVERY).await;
            }
        };
        stop.run_until_cancelled(cleaning).await;
    }

    /// Deletes what is to go now, so much at a time.
    pub async fn clean(&self) -> Result<(), Error> {
        for _ in 0..MAX_CHUNKS {
            let mut conn = self.pool.get().await?;
            if store::purge_expired(&mut conn, self.clock.now(), CHUNK).await? < CHUNK {
                break;
            }
        }
        Ok(())
    }
}
