//! Reads what other servers, and operators, have ended: on a connection of its own, woken by a
//! notification or by the clock, whichever comes first.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
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
const POLL_EVERY: Duration = Duration::from_millis(750);
/// Bound on each statement, here and there.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(5);
/// Looks between two cleanings.
const TIDY_EVERY: u32 = 80;
/// How far a look reaches back beyond the one before: a row is dated before it can be seen, by as much as
/// its transaction takes to commit.
const OVERLAP: TimeDelta = TimeDelta::minutes(1);
/// A server that was cut off for longer does not learn any more all it missed: rows are kept for a day.
const MAX_MISSED: TimeDelta = TimeDelta::hours(23);

/// What a look has to read.
#[derive(Debug, PartialEq, Eq)]
enum Backlog {
    /// All that may matter: nothing was read yet.
    All,
    /// What came since.
    Since(DateTime<Utc>),
    /// More than there still is.
    Lost,
}

impl Backlog {
    /// Of a look at `now`, after one at `before`; both by the database's clock.
    fn of(before: Option<DateTime<Utc>>, now: DateTime<Utc>) -> Self {
        match before {
            None => Self::All,
            Some(before) if now - before < MAX_MISSED => Self::Since(before.min(now) - OVERLAP),
            Some(_) => Self::Lost,
        }
    }
}

impl Revocations {
    /// Follows the table until the stop; `followed` is 1 while that works. Where it does not, whatever the
    /// reason, nothing new is seen: so memory judges no token once that has lasted
    /// ([`Revocations::is_current`]).
    pub async fn follow(self, database: DatabaseSettings, followed: Gauge, stop: CancellationToken) {
        let following = async {
            let (mut is_down, mut polled_at) = (false, None);
            loop {
                if let Err(error) = self.resume(&database, &followed, &mut is_down, &mut polled_at).await {
                    followed.set(0);
                    if !std::mem::replace(&mut is_down, true) {
                        tracing::warn!(error = %Chain(&error), "revocations can't be followed; trying on");
                    }
                }
                tokio::time::sleep(POLL_EVERY).await;
            }
        };
        stop.run_until_cancelled(following).await;
    }

    async fn resume(
        &self,
        database: &DatabaseSettings,
        followed: &Gauge,
        is_down: &mut bool,
        polled_at: &mut Option<DateTime<Utc>>,
    ) -> Result<(), Error> {
        let url = database.url.reveal();
        let mut conn = db::connect(url, Some(STATEMENT_TIMEOUT)).await.map_err(Error::unavailable)?;
        in_time(store::listen(&mut conn)).await?;
        for look in 1_u32.. {
            let asked_at = Instant::now();
            let now = in_time(store::clock(&mut conn)).await?;
            let reach = Backlog::of(*polled_at, now);
            let rows = match reach {
                Backlog::Since(at) => in_time(store::since(&mut conn, at)).await?,
                Backlog::All | Backlog::Lost => in_time(store::alive(&mut conn)).await?,
            };
            self.apply(&rows);
            if reach == Backlog::Lost {
                tracing::warn!("what has ended could not be read for a day: ending every socket and stream");
                self.cache.end_all();
            }
            *polled_at = Some(now);
            self.mark_synced(asked_at);
            followed.set(1);
            *is_down = false;
            if look.is_multiple_of(TIDY_EVERY) {
                in_time(store::purge(&mut conn)).await?;
                self.cache.tidy();
            }
            wait(&mut conn).await?;
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
    if let Ok(note) = timeout(POLL_EVERY, notes.next()).await {
        note.ok_or_else(ended)??;
    }
    // Their queue has no bound: one look is for all of them.
    while let Some(note) = notes.next().now_or_never() {
        note.ok_or_else(ended)??;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_reaches_back_to_the_one_before_however_long_ago() {
        let now: DateTime<Utc> = "2026-02-13T12:00:00Z".parse().unwrap();
        let at = |before: TimeDelta| Backlog::of(Some(now - before), now);
        assert_eq!(Backlog::of(None, now), Backlog::All);
        for gap in [TimeDelta::milliseconds(750), TimeDelta::minutes(40), MAX_MISSED - TimeDelta::seconds(1)] {
            assert_eq!(at(gap), Backlog::Since(now - gap - OVERLAP));
        }
        assert_eq!(at(MAX_MISSED), Backlog::Lost);
        // A clock that was put back.
        assert_eq!(at(-TimeDelta::hours(3)), Backlog::Since(now - OVERLAP));
    }
}
