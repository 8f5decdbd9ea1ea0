//! The yardstick of ingest: the shortest program that keeps the promise. Subscribe, parse, insert a batch, acknowledge it in
//! order, and nothing else: no device table, no reconnect, no subscribers, no MQTT library.
//!
//! One thread. It reads whole packets from one buffer; a batch is whatever arrived while PostgreSQL took the last ones,
//! and one more is sent before the last one is committed, so that PostgreSQL never waits for its next statement.

use std::io::ErrorKind;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, bail, ensure};
use futures_util::StreamExt;
use futures_util::stream::FuturesOrdered;
use tokio::net::TcpStream;
use tokio_postgres::{Client, Statement};

use crate::codec::{self, PUBLISH, Packets, Publish};
use crate::load::flood_in_background;
use crate::process;
use crate::rows::{self, BATCH, Columns, Parser};
use crate::stage::Stage;
use crate::stats::{median, per_second, thousands};
use crate::table::Table;
use crate::yardstick::Yardstick;

const PREFIX: &str = "yardstick";
/// Statements that are sent and not committed yet, at most.
const IN_FLIGHT: usize = 2;
/// Rows that are worth a statement before the last one is committed.
const ENOUGH: usize = BATCH;
/// Rows in a statement at most; then reading stops.
const MOST_ROWS: usize = 2 * BATCH;
/// Bytes of one read: some hundred messages.
const READ: usize = 256 * 1024;

/// What the pipe reached.
pub(crate) struct Reached {
    /// Messages a second.
    pub(crate) rate: f64,
    /// Microseconds of the pipe's processor time a message.
    pub(crate) pipe_us: f64,
    /// The same of all of PostgreSQL.
    pub(crate) database_us: f64,
}

/// `limits` are the rates of the broker alone and of the INSERT alone.
pub(crate) fn measure(
    stage: &Stage,
    table: &mut Table,
    yardstick: &Yardstick,
    limits: [Option<f64>; 2],
) -> Result<Reached> {
    let n = stage.size.messages;
    let (mut rates, mut costs) = (Vec::new(), [const { Vec::new() }; 4]);
    for _ in 0..stage.size.rounds {
        yardstick.empty(stage)?;
        let client = stage.connect(yardstick.database())?;
        let range = stage.numbers.take(n);
        let mut stream = codec::connect(stage.mqtt_port, "bench-pipe")?;
        codec::subscribe(&mut stream, &format!("{PREFIX}/+/+/telemetry"))?;
        stream.set_nonblocking(true)?;
        let before = spent(stage)?;
        let start = Instant::now();
        let load = flood_in_background(stage.mqtt_port, PREFIX, "1", &stage.numbers, range);
        stage.runtime.block_on(run(stream, &client, n))?;
        rates.push(per_second(n, start.elapsed()));
        load.join().expect("the load does not panic")?;
        for (cost, (after, before)) in costs.iter_mut().zip(spent(stage)?.into_iter().zip(before)) {
            cost.push(1_000_000.0 / per_second(n, after.saturating_sub(before)));
        }
        let stored: i64 = stage.runtime.block_on(client.query_one("select count(*) from telemetry", &[]))?.get(0);
        ensure!(u64::try_from(stored)? == n, "the bare pipe stored {stored} of {n} messages");
    }
    let rate = median(rates);
    let smaller = limits.into_iter().flatten().min_by(f64::total_cmp);
    let limit = smaller.map(|smaller| format!("smaller of broker and INSERT {}/s", thousands(smaller)));
    let (what, ratio) = ("bare pipe: subscribe, INSERT, acknowledge", smaller.map(|smaller| rate / smaller));
    table.row(what, &format!("{}/s", thousands(rate)), &limit.unwrap_or_default(), ratio, "at least 0.9");
    let costs = costs.map(median);
    processor(table, rate, costs)?;
    let [pipe_us, _, database_us, _] = costs;
    Ok(Reached { rate, pipe_us, database_us })
}

/// What the pipe would reach if no core ever waited.
fn processor(table: &mut Table, rate: f64, [pipe, both, database, broker]: [f64; 4]) -> Result<()> {
    let cores = f64::from(u32::try_from(std::thread::available_parallelism()?.get())?);
    let most = cores * 1_000_000.0 / (both + database + broker);
    let measured = format!("{pipe:.1} / {:.1} / {database:.1} / {broker:.1} us", (both - pipe).max(0.0));
    let limit = format!("{cores} busy cores {}/s", thousands(most));
    table.row(
        "the same: processor a message, pipe / load / PostgreSQL / broker",
        &measured,
        &limit,
        Some(rate / most),
        "",
    );
    Ok(())
}

/// Processor time so far of this thread, this process (pipe and load), PostgreSQL and the broker.
fn spent(stage: &Stage) -> Result<[Duration; 4]> {
    let (pipe, both) = (process::cpu("thread-self", false), process::cpu("self", false));
    Ok([pipe, both, stage.database_cpu()?, process::cpu(stage.broker.id(), false)])
}

/// Stores and acknowledges `n` messages.
async fn run(stream: std::net::TcpStream, client: &Client, n: u64) -> Result<()> {
    let stream = TcpStream::from_std(stream)?;
    let statement = rows::prepare(client).await?;
    let (mut packets, mut parser) = (Packets::default(), Parser::new());
    let (mut rows, mut acks) = (Columns::default(), Vec::new());
    let mut in_flight = FuturesOrdered::new();
    let mut left = n;
    while left > 0 {
        tokio::select! {
            biased;
            Some(stored) = in_flight.next() => {
                let (stored, acks): (u64, Vec<u8>) = stored?;
                write_all(&stream, &acks).await?;
                left = left.saturating_sub(stored);
            }
            ready = stream.readable(), if rows.len() < MOST_ROWS => {
                ready?;
                if read(&stream, &mut packets)? {
                    take(&mut packets, &mut parser, &mut rows, &mut acks)?;
                }
            }
        }
        let wanted = match in_flight.len() {
            0 => 1,
            n if n < IN_FLIGHT => ENOUGH,
            _ => usize::MAX,
        };
        if rows.len() >= wanted {
            in_flight.push_back(store(client, &statement, std::mem::take(&mut rows), std::mem::take(&mut acks)));
        }
    }
    Ok(())
}

/// Reads once; whether anything was there.
fn read(stream: &TcpStream, packets: &mut Packets) -> Result<bool> {
    match stream.try_read(packets.room(READ)) {
        Ok(0) => bail!("the broker closed the pipe's connection"),
        Ok(n) => packets.filled(n),
        Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
        Err(error) => return Err(error.into()),
    }
    Ok(true)
}

/// One statement: the rows stored, and their acknowledgements.
async fn store(client: &Client, statement: &Statement, rows: Columns, acks: Vec<u8>) -> Result<(u64, Vec<u8>)> {
    let stored = rows::insert(client, statement, &rows).await?;
    Ok((stored, acks))
}

/// The rows and acknowledgements of all whole packets.
fn take(packets: &mut Packets, parser: &mut Parser, rows: &mut Columns, acks: &mut Vec<u8>) -> Result<()> {
    let received_at = SystemTime::now();
    while let Some((kind, body)) = packets.next() {
        if kind == PUBLISH {
            let publish = Publish::parse(body).context("a PUBLISH of QoS 1")?;
            parser.push(rows, publish.payload, received_at)?;
            acks.extend(codec::puback(publish.packet_id));
        }
    }
    Ok(())
}

async fn write_all(stream: &TcpStream, bytes: &[u8]) -> Result<()> {
    let mut rest = bytes;
    while !rest.is_empty() {
        stream.writable().await?;
        match stream.try_write(rest) {
            Ok(n) => rest = &rest[n..],
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
