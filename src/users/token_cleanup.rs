//! Deletes expired refresh tokens.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::{Users, store};
use crate::error::{Chain, Error};

/// Tokens deleted by one statement, which must stay below the statement timeout.
const CHUNK: usize = 10_000;
/// Most statements of one run.
const MAX_CHUNKS: usize = 1_000;
/// Pause between two runs.
const CLEAN_EVERY: Duration = Duration::from_secs(3600);

impl Users {
    /// Deletes expired tokens once an hour. Several servers may do so at once.
    pub async fn run_token_cleanup(self, migrated: CancellationToken, stop: CancellationToken) {
        let cleaning = async {
            migrated.cancelled().await;
            loop {
                if let Err(error) = self.delete_expired_tokens().await {
                    tracing::warn!(error = %Chain(&error), "deleting expired sessions failed; retrying later");
                }
                tokio::time::sleep(CLEAN_EVERY).await;
            }
        };
        stop.run_until_cancelled(cleaning).await;
    }

    /// Deletes all expired tokens, in chunks.
    pub async fn delete_expired_tokens(&self) -> Result<(), Error> {
        for _ in 0..MAX_CHUNKS {
            let mut conn = self.pool.get().await?;
            if store::delete_expired(&mut conn, self.clock.now(), CHUNK).await? < CHUNK {
                break;
            }
        }
        Ok(())
    }
}
