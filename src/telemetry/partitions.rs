//! The task that looks after the partitions of `telemetry`, so that a message seldom has to: it creates this month's and
//! the next month's ahead, and creates or attaches those that ingest could not have at once.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use diesel::QueryResult;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::partition_store::{Month, MonthTable, attach_month, ensure_month};
use crate::backoff::Backoff;
use crate::clock::Clock;
use crate::db::{ReconnectingConnection, with_timeout};
use crate::error::Chain;
use crate::latch::Latch;
use crate::settings::DatabaseSettings;

/// Interval between two looks at this month and the next.
const LOOK_EVERY: Duration = Duration::from_secs(3600);
/// The same after a failure.
const RETRY_EVERY: Duration = Duration::from_secs(60);
/// The first pause before a month that ingest wants is tried again, and the longest.
const WANTED_PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(20));
/// Limit on a statement: before a table is attached, PostgreSQL reads all of it.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(1800);
/// Longest wait for a lock.
const LOCK_TIMEOUT: Duration = Duration::from_secs(2);
/// Longest wait for the database: three statements.
const MONTH_TIMEOUT: Duration = Duration::from_secs(3 * 1800 + 60);

/// Asks the task for partitions.
#[derive(Debug, Clone, Default)]
pub struct Partitions {
    /// The months that ingest waits for.
    wanted: watch::Sender<BTreeSet<Month>>,
    /// How many of them got their partition.
    made: watch::Sender<u64>,
}

impl Partitions {
    /// Asks for a partition of the month. The task tries for as long as it takes.
    pub fn want(&self, month: Month) {
        self.wanted.send_if_modified(|wanted| wanted.insert(month));
    }

    /// Changes when a wanted month has got its partition.
    pub fn made(&self) -> watch::Receiver<u64> {
        self.made.subscribe()
    }

    /// Works from the migration of the database until the stop. Several servers may do so at once.
    pub async fn run(self, database: DatabaseSettings, clock: Clock, migrated: Latch, stop: CancellationToken) {
        let working = async {
            migrated.wait().await;
            Keeper::new(database).run(&self, &clock).await;
        };
        stop.run_until_cancelled(working).await;
    }

    fn has(&self, month: Month) {
        self.wanted.send_if_modified(|wanted| {
            wanted.remove(&month);
            false
        });
        self.made.send_modify(|n| *n += 1);
    }
}

/// What the running task knows.
struct Keeper {
    db: ReconnectingConnection,
    /// The last error of a month, so that each is logged once.
    errors: HashMap<Month, String>,
    pauses: Backoff,
}

impl Keeper {
    fn new(database: DatabaseSettings) -> Self {
        let db = ReconnectingConnection::new(database, "the task for partitions", STATEMENT_TIMEOUT);
        Self { db, errors: HashMap::new(), pauses: Backoff::new(WANTED_PAUSES.0, WANTED_PAUSES.1) }
    }

    async fn run(mut self, partitions: &Partitions, clock: &Clock) {
        let (mut wanted, mut next_look, mut next_try) = (partitions.wanted.subscribe(), Instant::now(), None);
        loop {
            tokio::select! {
                Ok(()) = wanted.changed() => {
                    wanted.mark_unchanged();
                    self.pauses.reset();
                    next_try = Some(Instant::now());
                }
                () = sleep_until(next_try.unwrap_or_else(Instant::now)), if next_try.is_some() => {
                    next_try = self.ensure_wanted(partitions).await;
                }
                () = sleep_until(next_look) => {
                    let month = Month::of(clock.now());
                    let both = [self.ensure(month).await, self.ensure(month.next()).await];
                    next_look = Instant::now() + if both == [true, true] { LOOK_EVERY } else { RETRY_EVERY };
                }
            }
            // An idle server holds no connection for it.
            self.db.close();
        }
    }

    /// Tries each wanted month. Returns when to try the rest again, if any is left.
    async fn ensure_wanted(&mut self, partitions: &Partitions) -> Option<Instant> {
        let wanted = partitions.wanted.borrow().clone();
        let mut are_all_made = true;
        for month in wanted {
            if self.ensure(month).await {
                partitions.has(month);
            } else {
                are_all_made = false;
            }
        }
        (!are_all_made).then(|| Instant::now() + self.pauses.next_delay())
    }

    /// Whether the month has a partition now.
    async fn ensure(&mut self, month: Month) -> bool {
        let Err(error) = with_timeout(MONTH_TIMEOUT, self.try_ensure(month)).await else {
            self.db.reset_backoff();
            self.errors.remove(&month);
            return true;
        };
        self.db.close();
        let error = Chain(&error).to_string();
        if self.errors.get(&month) != Some(&error) {
            tracing::warn!(%month, %error, "a month has no partition; trying again");
            self.errors.insert(month, error);
        }
        false
    }

    async fn try_ensure(&mut self, month: Month) -> QueryResult<()> {
        let conn = self.db.get().await;
        match ensure_month(conn, month, LOCK_TIMEOUT).await? {
            MonthTable::Attached => {}
            MonthTable::Missing(error) => return Err(error),
            MonthTable::Detached => {
                attach_month(conn, month).await?;
                tracing::warn!(%month, "attached the table of a month to telemetry: a message belongs to it");
            }
        }
        Ok(())
    }
}
