//! Whether a full table is slower than an empty one: ingest before and after some million rows.

use anyhow::Result;

use crate::ingest::flood;
use crate::lists;
use crate::server::Server;
use crate::stage::Stage;
use crate::stats::thousands;
use crate::table::Table;

const MILLION: u64 = 1_000_000;

pub(crate) fn measure(stage: &Stage, table: &mut Table, server: &Server, million_rows: u64) -> Result<()> {
    let before = flood(stage, stage.size.messages)?;
    for _ in 0..million_rows {
        flood(stage, MILLION)?;
    }
    stage.settle()?;
    let after = flood(stage, stage.size.messages)?;
    let what = format!("durable ingest with {million_rows} million rows more");
    let limit = format!("before {}/s", thousands(before));
    table.row(&what, &format!("{}/s", thousands(after)), &limit, Some(after / before), "at least 0.9");
    lists::measure(stage, table, server, None)
}
