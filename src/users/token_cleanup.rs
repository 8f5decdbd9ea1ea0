//! Deletes expired refresh tokens, and expired tokens that were sent by mail.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::{Users, account_tokens_store, refresh_tokens_store};
use crate::background::periodic;
use crate::error::Error;
use crate::latch::Latch;

/// Tokens deleted by one statement, which must stay below the statement timeout.
const CHUNK: usize = 10_000;
/// Most statements of one run.
const MAX_CHUNKS: usize = 1_000;
/// Pause between two runs.
const CLEAN_EVERY: Duration = Duration::from_secs(3600);

impl Users {
    /// Deletes expired tokens once an hour. Several servers may do so at once.
    pub async fn run_token_cleanup(self, migrated: Latch, stop: CancellationToken) {
        periodic("the cleanup of tokens", CLEAN_EVERY, migrated, stop, || self.delete_expired_tokens()).await;
    }

    /// Deletes all expired tokens, in chunks.
    pub async fn delete_expired_tokens(&self) -> Result<(), Error> {
        for _ in 0..MAX_CHUNKS {
            let mut conn = self.pool.get().await?;
            if refresh_tokens_store::delete_expired(&mut conn, self.clock.now(), CHUNK).await? < CHUNK {
                break;
            }
        }
        for _ in 0..MAX_CHUNKS {
            let mut conn = self.pool.get().await?;
            if account_tokens_store::delete_expired(&mut conn, self.clock.now(), CHUNK).await? < CHUNK {
                break;
            }
        }
        Ok(())
    }
}
