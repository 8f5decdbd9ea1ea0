//! Polls the revocations of other servers and of operators on a connection of its own. A notification or the
//! poll interval, whichever comes first, starts the next poll.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::{FutureExt, StreamExt};
use prometheus_client::metrics::gauge::Gauge;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::{Revocations, store};
use crate::backoff::Backoff;
use crate::db::{self, with_timeout};
use crate::error::{Chain, Error};
use crate::settings::DatabaseSettings;

/// Longest time between two polls: without notifications a revocation is applied within a second.
const POLL_INTERVAL: Duration = Duration::from_millis(750);
/// First and longest nominal pause before a reconnect.
const RECONNECT: (Duration, Duration) = (Duration::from_millis(250), POLL_INTERVAL);
/// Bound on each statement, on the server and here.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(5);
/// Polls between two purges.
const PURGE_EVERY: u32 = 80;
/// How far a poll reaches back before the previous one. A row is dated before it becomes visible, by as much as
/// its transaction takes to commit.
const OVERLAP: TimeDelta = TimeDelta::minutes(1);
/// Rows are kept for a day, so a server disconnected for longer can't read all that it missed.
const MAX_GAP: TimeDelta = TimeDelta::hours(23);

/// The rows a poll has to read.
#[derive(Debug, PartialEq, Eq)]
enum Range {
    /// The first poll: every revocation that may still matter.
    All,
    /// Revocations after this moment.
    Since(DateTime<Utc>),
    /// The previous poll is too long ago: some rows are purged.
    Incomplete,
}

impl Range {
    /// For a poll at `now` after one at `previous`; both by the database's clock.
    fn of(previous: Option<DateTime<Utc>>, now: DateTime<Utc>) -> Self {
        match previous {
            None => Self::All,
            Some(previous) if now - previous < MAX_GAP => Self::Since(previous.min(now) - OVERLAP),
            Some(_) => Self::Incomplete,
        }
    }
}

/// Progress that survives a reconnect.
struct Progress {
    polled_at: Option<DateTime<Utc>>,
    is_down: bool,
    backoff: Backoff,
    /// 1 while polling works.
    following: Gauge,
}

impl Revocations {
    /// Follows the table until `stop`; `following` is 1 while that works. While it fails, whatever the reason,
    /// the cache grows stale and soon judges no token ([`Revocations::is_current`]).
    pub async fn follow(self, database: DatabaseSettings, following: Gauge, stop: CancellationToken) {
        let backoff = Backoff::new(RECONNECT.0, RECONNECT.1);
        let mut progress = Progress { polled_at: None, is_down: false, backoff, following };
        let run = async {
            loop {
                if let Err(error) = self.poll_until_error(&database, &mut progress).await {
                    progress.following.set(0);
                    if !std::mem::replace(&mut progress.is_down, true) {
                        tracing::warn!(error = %Chain(&error), "can't follow revocations; retrying");
                    }
                }
                progress.backoff.wait().await;
            }
        };
        stop.run_until_cancelled(run).await;
    }

    async fn poll_until_error(&self, database: &DatabaseSettings, progress: &mut Progress) -> Result<(), Error> {
        let url = database.url.reveal();
        let mut conn = db::connect(url, Some(STATEMENT_TIMEOUT)).await.map_err(Error::unavailable)?;
        with_timeout(STATEMENT_TIMEOUT, store::listen(&mut conn)).await?;
        for n_polls in 1_u32.. {
            self.poll(&mut conn, &mut progress.polled_at).await?;
            progress.following.set(1);
            progress.is_down = false;
            progress.backoff.reset();
            if n_polls.is_multiple_of(PURGE_EVERY) {
                with_timeout(STATEMENT_TIMEOUT, store::purge(&mut conn)).await?;
                self.cache.purge();
            }
            wait_for_notification(&mut conn).await?;
        }
        Ok(())
    }

    async fn poll(&self, conn: &mut db::Connection, polled_at: &mut Option<DateTime<Utc>>) -> Result<(), Error> {
        let started_at = Instant::now();
        let now = with_timeout(STATEMENT_TIMEOUT, store::clock(conn)).await?;
        let range = Range::of(*polled_at, now);
        let rows = match range {
            Range::Since(at) => with_timeout(STATEMENT_TIMEOUT, store::read_since(conn, at)).await?,
            Range::All | Range::Incomplete => with_timeout(STATEMENT_TIMEOUT, store::read_live(conn)).await?,
        };
        self.apply(&rows);
        if range == Range::Incomplete {
            tracing::warn!("revocations could not be read for a day: closing every socket and stream");
            self.cache.revoke_all_watches();
        }
        *polled_at = Some(now);
        self.mark_synced(started_at);
        Ok(())
    }
}

/// Waits for a notification, at most for [`POLL_INTERVAL`].
async fn wait_for_notification(conn: &mut db::Connection) -> Result<(), Error> {
    let closed = || Error::unavailable("the connection was closed");
    let mut notifications = std::pin::pin!(conn.notifications_stream());
    if let Ok(notification) = timeout(POLL_INTERVAL, notifications.next()).await {
        notification.ok_or_else(closed)??;
    }
    // The driver's queue is unbounded: empty it, one poll serves all of them.
    while let Some(notification) = notifications.next().now_or_never() {
        notification.ok_or_else(closed)??;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_poll_reaches_back_to_the_previous_one_unless_rows_are_purged() {
        let now: DateTime<Utc> = "2026-02-13T12:00:00Z".parse().unwrap();
        let after = |gap: TimeDelta| Range::of(Some(now - gap), now);
        assert_eq!(Range::of(None, now), Range::All);
        for gap in [TimeDelta::milliseconds(750), TimeDelta::minutes(40), MAX_GAP - TimeDelta::seconds(1)] {
            assert_eq!(after(gap), Range::Since(now - gap - OVERLAP));
        }
        assert_eq!(after(MAX_GAP), Range::Incomplete);
        // The clock was set back.
        assert_eq!(after(-TimeDelta::hours(3)), Range::Since(now - OVERLAP));
    }
}
