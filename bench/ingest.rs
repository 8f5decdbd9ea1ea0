//! Durable ingest through the server: a flood of QoS 1 messages, timed until the last row is
//! committed and counted by SQL; memory before and after; where the processor's time went.

use std::ops::Range;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use tokio_postgres::Client;

use crate::echo::wait_until;
use crate::load::flood_in_background;
use crate::pipe::Reached;
use crate::process;
use crate::server::{DATABASE, HOME, PREFIX, Server};
use crate::stage::Stage;
use crate::stats::{median, per_second, thousands};
use crate::table::Table;

/// Time between two looks at the database: short against the run, rare enough not to weigh.
const LOOK: Duration = Duration::from_millis(10);
/// Time without work before the memory is read: what served the last request has been returned.
const IDLE: Duration = Duration::from_secs(3);
/// Nothing new for so long: what is missing is lost.
const SILENCE: Duration = Duration::from_secs(15);
/// What the best of the peers reached on another day's machine.
const BEST_PEER: f64 = 3_620.0;

/// Processor time of the server and of PostgreSQL beside the pipe's. The targets are 5 and 11 us of the machine on which they were
/// set. There such a pipe took 1.6 to 1.9 us, and its PostgreSQL 8.6 to 9.5; the stricter figures are taken.
const SERVER_TO_PIPE: f64 = 5.0 / 1.9;
const DATABASE_TO_PIPE: f64 = 11.0 / 9.5;

/// What the same run reached without us.
pub(crate) struct Limits {
    pub(crate) insert: Option<f64>,
    pub(crate) pipe: Option<Reached>,
    pub(crate) broker: Option<f64>,
}

pub(crate) fn measure(stage: &Stage, table: &mut Table, server: &Server, limits: &Limits) -> Result<()> {
    let pid = server.process.id();
    wait_until(Instant::now() + IDLE);
    let (idle, _) = process::memory_kib(pid)?;
    table.row("memory of the server, idle", &mib(idle), "", None, "at most 30 MB");

    let n = stage.size.messages;
    let (mut rates, mut costs) = (Vec::new(), [Vec::new(), Vec::new(), Vec::new()]);
    for _ in 0..stage.size.rounds {
        stage.settle()?;
        let before = cpu(stage, server)?;
        rates.push(flood(stage, n)?);
        let after = cpu(stage, server)?;
        for (cost, (after, before)) in costs.iter_mut().zip(after.into_iter().zip(before)) {
            cost.push(1_000_000.0 / per_second(n, after.saturating_sub(before)));
        }
    }
    let rate = median(rates);
    let measured = format!("{}/s, 0 lost", thousands(rate));
    let what = format!("durable ingest, {} messages of QoS 1", thousands(f64::from(u32::try_from(n)?)));
    let against =
        |name: &str, limit: Option<f64>| (limit.map(|l| format!("{name} {}/s", thousands(l))), limit.map(|l| rate / l));
    let (limit, ratio) = against("bare pipe", limits.pipe.as_ref().map(|pipe| pipe.rate));
    table.row(&what, &measured, &limit.unwrap_or_default(), ratio, "at least 0.75");
    for (name, limit) in [("same INSERT", limits.insert), ("broker", limits.broker)] {
        if let (Some(limit), ratio) = against(name, limit) {
            table.row("", "", &limit, ratio, "");
        }
    }
    let peer = format!("best peer {}/s", thousands(BEST_PEER));
    table.row("", "", &peer, Some(rate / BEST_PEER), "at least 10");

    processor(table, costs.map(median), limits.pipe.as_ref());
    wait_until(Instant::now() + IDLE);
    let (now, highest) = process::memory_kib(pid)?;
    let measured = format!("{}, highest {}", mib(now), mib(highest));
    table.row("memory of the server after the flood", &measured, "", None, "at most 80 MB");
    Ok(())
}

/// Beside the pipe: a slower machine is slower for both.
fn processor(table: &mut Table, [server, database, broker]: [f64; 3], pipe: Option<&Reached>) {
    let what = "processor a message: server / PostgreSQL / broker";
    let measured = format!("{server:.1} / {database:.1} / {broker:.1} us");
    table.row(what, &measured, "", None, "5 / 11 us, where the pipe takes 1.9 / 9.5");
    let Some(Reached { pipe_us, database_us, .. }) = pipe else { return };
    for (what, us, pipe_us, target) in [
        ("the same beside the bare pipe: server", server, pipe_us, SERVER_TO_PIPE),
        ("the same beside the bare pipe: PostgreSQL", database, database_us, DATABASE_TO_PIPE),
    ] {
        let target = format!("at most {target:.2}");
        table.row(what, &format!("{us:.1} us"), &format!("bare pipe {pipe_us:.1} us"), Some(us / pipe_us), &target);
    }
}

fn cpu(stage: &Stage, server: &Server) -> Result<[Duration; 3]> {
    let server = process::cpu(server.process.id(), false);
    Ok([server, stage.database_cpu()?, process::cpu(stage.broker.id(), false)])
}

fn mib(kib: u64) -> String {
    format!("{:.1} MB", f64::from(u32::try_from(kib).unwrap_or(u32::MAX)) / 1_024.0)
}

/// Sends `n` messages and waits until all are stored: messages a second.
pub(crate) fn flood(stage: &Stage, n: u64) -> Result<f64> {
    let (range, stored) = Awaited::next(stage, n)?;
    let start = Instant::now();
    let load = flood_in_background(stage.mqtt_port, PREFIX, HOME, &stage.numbers, range);
    stored.wait(stage)?;
    let time = start.elapsed();
    load.join().expect("the load does not panic")?;
    stored.check(stage)?;
    Ok(per_second(n, time))
}

/// Messages whose rows are waited for.
pub(crate) struct Awaited {
    client: Client,
    numbers: Range<u64>,
    /// The id of the last row before theirs.
    last_id: i64,
}

impl Awaited {
    /// The numbers of the next `n` messages, and what waits for their rows.
    pub(crate) fn next(stage: &Stage, n: u64) -> Result<(Range<u64>, Self)> {
        let (client, numbers) = (stage.connect(DATABASE)?, stage.numbers.take(n));
        let last_id = last_id(stage, &client)?;
        Ok((numbers.clone(), Self { client, numbers, last_id }))
    }

    /// Until the last row is committed.
    pub(crate) fn wait(&self, stage: &Stage) -> Result<()> {
        let n = i64::try_from(self.numbers.end - self.numbers.start)?;
        await_rows(stage, &self.client, self.last_id + n)
    }

    /// Counts the rows: the sequence said that they are there, they have the last word.
    pub(crate) fn check(&self, stage: &Stage) -> Result<()> {
        let Range { start, end } = self.numbers;
        let (from, until) = (stage.numbers.time(start).into(), stage.numbers.time(end).into());
        let (n, stored) = (end - start, count(stage, &self.client, from, until)?);
        ensure!(stored == n, "{} of {n} messages are missing", n.abs_diff(stored));
        Ok(())
    }
}

/// Until the row with this id is there. Rows take the numbers of the sequence in the order of commits. To look at it costs
/// the database nothing; to look for a committed row costs it a plan over all months, so this is done at the end only.
fn await_rows(stage: &Stage, client: &Client, target: i64) -> Result<()> {
    let given_out = stage.runtime.block_on(client.prepare("select last_value from telemetry_id_seq"))?;
    let (mut seen, mut changed) = (0, Instant::now());
    loop {
        let mut now: i64 = stage.runtime.block_on(client.query_one(&given_out, &[]))?.get(0);
        if now >= target {
            now = last_id(stage, client)?;
        }
        if now >= target {
            return Ok(());
        }
        if now != seen {
            (seen, changed) = (now, Instant::now());
        }
        if changed.elapsed() > SILENCE {
            bail!("{} rows are missing after {} s without a new one", target - now, SILENCE.as_secs());
        }
        thread::park_timeout(LOOK);
    }
}

/// The newest committed row's id.
fn last_id(stage: &Stage, client: &Client) -> Result<i64> {
    let query = "select coalesce((select id from telemetry where home_id = (select id from homes where key = $1) \
                 order by id desc limit 1), 0)";
    Ok(stage.runtime.block_on(client.query_one(query, &[&HOME]))?.get(0))
}

fn count(stage: &Stage, client: &Client, from: std::time::SystemTime, until: std::time::SystemTime) -> Result<u64> {
    let query = "select count(*) from telemetry where recorded_at >= $1 and recorded_at < $2";
    let stored: i64 = stage.runtime.block_on(client.query_one(query, &[&from, &until]))?.get(0);
    Ok(u64::try_from(stored)?)
}
