//! Reads what other servers, and operators, have ended: on a connection of its own, woken by a
//! notification or by the clock, whichever comes first.

use std::time::Duration;

use diesel::QueryResult;
use futures_util::{FutureExt, StreamExt};
use prometheus_client::metrics::gauge::Gauge;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::{Revocations, store};
use crate::db;
use crate::error::{Chain, Error};
use crate::settings::DatabaseSettings;

/// Longest time without a look at the table, and pause after a failure. With it an end is late by less
/// than a second even where no notification comes.
const LOOK_EVERY: Duration = Duration::from_millis(750);
/// Bound on each statement, here and there.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(5);
/// Looks between two cleanings.
const TIDY_EVERY: u32 = 80;

impl Revocations {
    /// Follows the table until the stop; `followed` is 1 while that works. Where it does not, whatever the
    /// reason, nothing new is seen: so memory judges no token once that has lasted
    /// ([`Revocations::is_current`]).
    pub async fn follow(self, database: DatabaseSettings, followed: Gauge, stop: CancellationToken) {
        let following = async {
            let mut is_down = false;
            loop {
                if let Err(error) = self.read_on(&database, &followed, &mut is_down).await {
                    followed.set(0);
                    if !std::mem::replace(&mut is_down, true) {
                        tracing::warn!(error = %Chain(&error), "revocations can't be followed; trying on");
                    }
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        stop.run_until_cancelled(following).await;
    }

    async fn read_on(&self, database: &DatabaseSettings, followed: &Gauge, is_down: &mut bool) -> Result<(), Error> {
        let url = database.url.reveal();
        let mut conn = db::connect(url, Some(STATEMENT_TIMEOUT)).await.map_err(Error::unavailable)?;
        in_time(store::listen(&mut conn)).await?;
        // All that may matter first, then what has come since: a row may become visible after a later one.
        let mut asked_at = Instant::now();
        let mut rows = in_time(store::all(&mut conn)).await?;
        for look in 1_u32.. {
            self.apply(&rows);
            self.caught_up(asked_at);
            followed.set(1);
            *is_down = false;
            if look.is_multiple_of(TIDY_EVERY) {
                in_time(store::purge(&mut conn)).await?;
                self.memory.tidy();
            }
            wait(&mut conn).await?;
            asked_at = Instant::now();
            rows = in_time(store::recent(&mut conn)).await?;
        }
        Ok(())
    }
}

/// The answer, unless the other end has vanished without a word: then another connection is to be tried.
async fn in_time<T>(statement: impl Future<Output = QueryResult<T>>) -> Result<T, Error> {
    let answer = timeout(STATEMENT_TIMEOUT, statement).await;
    Ok(answer.map_err(|_| Error::unavailable("no answer from the database"))??)
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
