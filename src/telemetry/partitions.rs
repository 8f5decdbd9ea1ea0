//! The task that looks after the partitions of `telemetry`, so that a message seldom has to: it creates this month's and
//! the next month's ahead, and attaches the tables of months that ingest finds detached.

use std::collections::HashMap;
use std::time::Duration;

use diesel::QueryResult;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::partition_store::{Month, MonthTable, attach_month, ensure_month};
use crate::clock::Clock;
use crate::db::{ReconnectingConnection, with_timeout};
use crate::error::Chain;
use crate::latch::Latch;
use crate::settings::DatabaseSettings;

/// Interval between two looks at this month and the next.
const LOOK_EVERY: Duration = Duration::from_secs(3600);
/// The same after a failure.
const RETRY_EVERY: Duration = Duration::from_secs(60);
/// Limit on a statement: before a table is attached, PostgreSQL reads all of it.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(1800);
/// Longest wait for the database: three statements.
const MONTH_TIMEOUT: Duration = Duration::from_secs(3 * 1800 + 60);

/// Asks the task for a month.
#[derive(Debug, Clone, Default)]
pub struct Partitions {
    /// The month that was asked for last.
    wanted: watch::Sender<Option<Month>>,
}

impl Partitions {
    /// Asks for the month's table to be attached.
    pub fn attach(&self, month: Month) {
        self.wanted.send_replace(Some(month));
    }

    /// Works from the migration of the database until the stop. Several servers may do so at once.
    pub async fn run(self, database: DatabaseSettings, clock: Clock, migrated: Latch, stop: CancellationToken) {
        let working = async {
            migrated.wait().await;
            Keeper::new(database).run(&self, &clock).await;
        };
        stop.run_until_cancelled(working).await;
    }
}

/// What the running task knows.
struct Keeper {
    db: ReconnectingConnection,
    /// The last error of a month, so that each is logged once.
    errors: HashMap<Month, String>,
}

impl Keeper {
    fn new(database: DatabaseSettings) -> Self {
        let db = ReconnectingConnection::new(database, "the task for partitions", STATEMENT_TIMEOUT);
        Self { db, errors: HashMap::new() }
    }

    async fn run(mut self, partitions: &Partitions, clock: &Clock) {
        let (mut wanted, mut next_look) = (partitions.wanted.subscribe(), Instant::now());
        loop {
            tokio::select! {
                Ok(()) = wanted.changed() => {
                    let month = *wanted.borrow_and_update();
                    if let Some(month) = month {
                        self.ensure(month).await;
                    }
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
        if ensure_month(conn, month).await? == MonthTable::Detached {
            attach_month(conn, month).await?;
            tracing::warn!(%month, "attached the table of a month to telemetry: a message belongs to it");
        }
        Ok(())
    }
}
