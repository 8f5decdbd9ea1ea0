//! What a measurement costs: processor time of the measured program and of PostgreSQL, and its statements.

use std::collections::HashSet;
use std::time::Duration;

use anyhow::Result;

use crate::process;
use crate::server::DATABASE;
use crate::stage::Stage;
use crate::statements::Statements;

/// The counters at the start of a measurement.
pub(crate) struct Meter {
    pid: u32,
    server: Duration,
    database: Duration,
    statements: Statements,
}

/// What was used since the start.
#[derive(Clone)]
pub(crate) struct Cost {
    pub(crate) server: Duration,
    pub(crate) database: Duration,
    pub(crate) statements: u64,
    /// Which statements were called.
    pub(crate) kinds: HashSet<i64>,
}

impl Meter {
    /// Starts to measure the process `pid`.
    pub(crate) fn start(stage: &Stage, pid: u32) -> Result<Self> {
        let statements = Statements::of(stage, DATABASE)?;
        Ok(Self { pid, server: process::cpu(pid, false), database: stage.database_cpu()?, statements })
    }

    /// What was used since the start; statements that belong to `other` work are not counted.
    pub(crate) fn stop(self, stage: &Stage, other: &HashSet<i64>) -> Result<Cost> {
        let server = process::cpu(self.pid, false).saturating_sub(self.server);
        let database = stage.database_cpu()?.saturating_sub(self.database);
        let now = Statements::of(stage, DATABASE)?;
        let kinds = now.kinds_since(&self.statements);
        Ok(Cost { server, database, statements: now.since(&self.statements, other), kinds })
    }
}

/// Microseconds for each of `n`.
pub(crate) fn micros(time: Duration, n: u64) -> f64 {
    1_000_000.0 / crate::stats::per_second(n, time)
}
