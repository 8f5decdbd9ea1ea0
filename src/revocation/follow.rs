//! Reads what other servers, and operators, have ended: on a connection of its own, woken by a
//! notification or by the clock, whichever comes first.

use std::time::Duration;

use futures_util::{FutureExt, StreamExt};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::{Revocations, store};
use crate::db;
use crate::error::{Chain, Error};
use crate::settings::DatabaseSettings;

/// Longest time without a look at the table, and pause after a failure. With it an end is late by less
/// than a second even where no notification comes.
const LOOK_EVERY: Duration = Duration::from_millis(750);
/// Bound on each statement.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(5);
/// Looks between two cleanings.
const TIDY_EVERY: u32 = 80;

impl Revocations {
    /// Follows the table until the stop. A database that is away is waited for: nothing is ended there,
    /// and nothing new is seen through it, meanwhile.
    pub async fn follow(self, database: DatabaseSettings, stop: CancellationToken) {
        let following = async {
            let mut is_down = false;
            loop {
                if let Err(error) = self.read_on(&database, &mut is_down).await
                    && !std::mem::replace(&mut is_down, true)
                {
                    tracing::warn!(error = %Chain(&error), "revocations can't be followed; trying on");
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        stop.run_until_cancelled(following).await;
    }

    async fn read_on(&self, database: &DatabaseSettings, is_down: &mut bool) -> Result<(), Error> {
        let url = database.url.reveal();
        let mut conn = db::connect(url, Some(STATEMENT_TIMEOUT)).await.map_err(Error::unavailable)?;
        store::listen(&mut conn).await?;
        // All that may matter first, then what has come since: a row may become visible after a later one.
        let mut rows = store::all(&mut conn).await?;
        for look in 1_u32.. {
            *is_down = false;
            self.apply(&rows);
            if look.is_multiple_of(TIDY_EVERY) {
                store::purge(&mut conn).await?;
                self.memory.tidy();
            }
            wait(&mut conn).await?;
            rows = store::recent(&mut conn).await?;
        }
        Ok(())
    }
}

/// Waits for a notification or for the time of the next look.
async fn wait(conn: &mut db::Connection) -> Result<(), Error> {
    let ended = || Error::unavailable("the connection has ended");
    let mut notes = std::pin::pin!(conn.notifications_stream());
    if let Ok(note) = timeout(LOOK_EVERY, notes.next()).await {
        note.ok_or_else(ended)??;
    }
    // Their queue has no bound: one look is for all of them.
    while let Some(note) = notes.next().now_or_never() {
        note.ok_or_else(ended)??;
    }
    Ok(())
}
