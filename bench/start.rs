//! How long `serve` takes until it is ready, and what it holds when idle. Leaves a server running
//! for whatever else is wanted.

use anyhow::Result;

use crate::server::{self, DATABASE, Server};
use crate::stage::Stage;
use crate::stats::median;
use crate::table::Table;

const STARTS: usize = 5;
/// Measurements that need a server.
const NEED_SERVER: [&str; 8] = ["start", "ingest", "live", "streams", "commands", "lists", "fan-out", "growth"];

pub(crate) fn measure(stage: &Stage, table: &mut Table) -> Result<Option<Server>> {
    if !NEED_SERVER.iter().any(|name| table.includes(name)) {
        return Ok(None);
    }
    let url = stage.create_database(DATABASE, false)?;
    // The first start also migrates an empty database.
    let (mut process, mut addr, first) = server::start(stage, &url)?;
    if table.wants("start") {
        let mut times = Vec::new();
        for _ in 0..STARTS {
            process.terminate()?;
            let (next, at, time) = server::start(stage, &url)?;
            (process, addr) = (next, at);
            times.push(time.as_secs_f64());
        }
        let (ready, first) = (median(times), first.as_secs_f64());
        table.row("start of `serve` until /readyz", &format!("{ready:.3} s"), "", None, "at most 0.1 s");
        table.row("the same with an empty database to migrate", &format!("{first:.3} s"), "", None, "");
    }
    Server::furnish(process, addr).map(Some)
}
