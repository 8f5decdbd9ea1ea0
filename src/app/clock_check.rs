//! Compares the server's clock with the database's, which all servers of an installation share. When a command expires is
//! set by one server and enforced by another, so their clocks have to agree.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::background::periodic;
use crate::clock::{Clock, ClockDifference};
use crate::db::{self, Pool};
use crate::error::Error;
use crate::latch::Latch;
use crate::logging::rounded;
use crate::metrics::Metrics;

const EVERY: Duration = Duration::from_secs(60);

/// Compares the clocks once a minute.
pub(super) async fn watch_clock(pool: Pool, clock: Clock, metrics: Metrics, migrated: Latch, stop: CancellationToken) {
    let work = || compare_clocks(&pool, &clock, &metrics);
    periodic("the comparison with the database's clock", EVERY, migrated, stop, work).await;
}

/// Compares the clocks, and reports a difference in a metric and, where it matters, in the log.
pub async fn compare_clocks(pool: &Pool, clock: &Clock, metrics: &Metrics) -> Result<(), Error> {
    let mut conn = pool.get().await?;
    let asked_at = clock.now();
    let database = db::clock(&mut conn).await?;
    let difference = ClockDifference::measured(asked_at, database, clock.now());
    let seconds = difference.ahead.as_seconds_f64();
    metrics.clock_ahead.set(seconds);
    if difference.is_large() {
        tracing::warn!(
            seconds = rounded(seconds),
            "this server's clock is ahead of the database's (behind where negative): commands expire too early or too \
             late. Synchronize both with NTP"
        );
    }
    Ok(())
}
