//! How long `serve` takes until it is ready, and what it holds when idle. Leaves a server running
//! for whatever else is wanted.

use std::time::Duration;

use anyhow::Result;

use crate::ingest::Awaited;
use crate::load::flood_in_background;
use crate::server::{self, DATABASE, HOME, PREFIX, Server};
use crate::stage::Stage;
use crate::stats::{median, thousands};
use crate::table::Table;

const STARTS: usize = 5;
/// Messages that wait at the broker when the server starts.
const BACKLOG: u32 = 150_000;
/// Measurements that need a server.
const NEED_SERVER: [&str; 10] =
    ["start", "ingest", "devices", "live", "streams", "commands", "reconnect", "lists", "fan-out", "growth"];

pub(crate) fn measure(stage: &Stage, table: &mut Table) -> Result<Option<Server>> {
    if !NEED_SERVER.iter().any(|name| table.includes(name)) {
        return Ok(None);
    }
    let url = stage.create_database(DATABASE, false)?;
    // The first start also migrates an empty database.
    let (mut process, mut addr, first) = server::start(stage, &url)?;
    let is_wanted = table.wants("start");
    if is_wanted {
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
    let mut server = Server::furnish(process, addr)?;
    if is_wanted {
        let time = start_with_backlog(stage, &url, &mut server)?;
        let what = format!("the same with {} messages waiting at the broker", thousands(f64::from(BACKLOG)));
        table.row(&what, &format!("{:.3} s", time.as_secs_f64()), "", None, "at most 1 s");
    }
    Ok(Some(server))
}

/// Stops the server, sends messages, and starts it again: the time until it is ready. All messages are stored then.
fn start_with_backlog(stage: &Stage, url: &str, server: &mut Server) -> Result<Duration> {
    server.process.terminate()?;
    let (numbers, stored) = Awaited::next(stage, BACKLOG.into())?;
    flood_in_background(stage.mqtt_port, PREFIX, HOME, &stage.numbers, numbers).join().expect("no panic")?;
    let time;
    (server.process, server.addr, time) = server::start(stage, url)?;
    stored.wait(stage)?;
    stored.check(stage)?;
    Ok(time)
}
