//! The database of the yardsticks: the server's schema without a server.

use anyhow::{Context, Result};
use chrono::{Datelike, Months};
use smarthome::clock::Clock;

use crate::stage::Stage;

const DATABASE: &str = "yardstick";

/// A database with the server's schema and nobody's data.
pub(crate) struct Yardstick(());

impl Yardstick {
    pub(crate) fn prepare(stage: &Stage) -> Result<Self> {
        stage.create_database(DATABASE, true)?;
        let client = stage.connect(DATABASE)?;
        let today = Clock::system().now().date_naive();
        for back in 0..2 {
            let month =
                today.with_day(1).and_then(|day| day.checked_sub_months(Months::new(back))).context("a month")?;
            let end = month.checked_add_months(Months::new(1)).context("a month")?;
            let name = month.format("telemetry_bench_%Y%m");
            let sql = format!("create table {name} partition of telemetry for values from ('{month}Z') to ('{end}Z')");
            stage.runtime.block_on(client.batch_execute(&sql)).context("make a partition")?;
        }
        Ok(Self(()))
    }

    pub(crate) fn database(&self) -> &'static str {
        DATABASE
    }

    /// Every round starts with an empty table.
    pub(crate) fn empty(&self, stage: &Stage) -> Result<()> {
        let client = stage.connect(DATABASE)?;
        stage.runtime.block_on(client.batch_execute("truncate telemetry"))?;
        stage.settle()
    }
}
