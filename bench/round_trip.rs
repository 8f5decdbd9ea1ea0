//! What the database alone needs, on one connection, one statement after the other: the lower bound of everything that
//! reads or commits before it answers.

use std::time::{Duration, Instant};

use anyhow::Result;
use tokio_postgres::Client;

use crate::stage::{ADMIN, Stage};
use crate::stats::Latencies;

/// Statements of each kind.
const CALLS: u32 = 1_000;

/// p50 of each kind.
pub(crate) struct RoundTrip {
    /// `select 1`.
    pub(crate) select: Duration,
    /// One row inserted and committed, with fsync.
    pub(crate) commit: Duration,
}

pub(crate) fn measure(stage: &Stage) -> Result<RoundTrip> {
    let client = stage.connect(ADMIN)?;
    stage.runtime.block_on(async {
        client.batch_execute("create table if not exists round_trip (number bigint)").await?;
        let select = p50(&client, "select 1").await?;
        let commit = p50(&client, "insert into round_trip values (1)").await?;
        Ok(RoundTrip { select, commit })
    })
}

async fn p50(client: &Client, text: &str) -> Result<Duration> {
    let statement = client.prepare(text).await?;
    let mut latencies = Latencies::default();
    for _ in 0..CALLS {
        let start = Instant::now();
        client.execute(&statement, &[]).await?;
        latencies.push(start.elapsed());
    }
    Ok(latencies.p50_p99().0)
}
