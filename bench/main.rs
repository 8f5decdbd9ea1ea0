//! `make bench`: what the server does, beside what the machine can do, from one run on one machine
//! with broker, database, server and load on it. Prints a table; asserts nothing that is timed.
//! README.md beside this file explains each row.

mod at_size;
mod bare_frames;
mod broker_alone;
mod client;
mod codec;
mod commands;
mod cost;
mod counters;
mod device_streams;
mod devices;
mod echo;
mod fan_out;
mod growth;
mod ingest;
mod insert;
mod lists;
mod live;
mod load;
mod messages;
mod node;
mod pipe;
mod process;
mod reconnect;
mod round_trip;
mod rows;
mod server;
mod soak;
mod socket;
mod stage;
mod start;
mod statements;
mod stats;
mod table;
mod tenants;
mod yardstick;

use std::path::PathBuf;

use anyhow::Result;
use clap::Parser;

use crate::node::Node;
use crate::stage::{Size, Stage};
use crate::table::Table;

/// Those of this tree.
const BROKER_FILES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docker/mosquitto");

/// Measure the server beside the machine's limits.
#[derive(Parser)]
struct Args {
    /// Only the measurements whose name contains one of these: broker, insert, pipe, start, ingest,
    /// devices, live, streams, commands, reconnect, lists, fan-out, growth. Or `tenants`, alone or with the attacks to measure:
    /// A2 to A13. Or `soak`. Or `statements`, alone or with parts of their names.
    filter: Vec<String>,
    /// A tenth of the messages, one round, short runs.
    #[arg(long)]
    quick: bool,
    /// Millions of rows to store before the last measurement of growth (0: leave it out).
    #[arg(long, default_value_t = 0, value_name = "N")]
    million_rows: u64,
    /// Measure this program instead of the one that was just built, e.g. that of another commit.
    #[arg(long, default_value = env!("CARGO_BIN_EXE_smarthome"), hide_default_value = true, value_name = "PATH")]
    server: PathBuf,
    /// With `tenants`: the folder of the broker's files, e.g. of another commit.
    #[arg(long, default_value = BROKER_FILES, hide_default_value = true, value_name = "DIR")]
    broker_files: PathBuf,
    /// With `soak`: how long the load lasts.
    #[arg(long, default_value_t = 30, value_name = "N")]
    minutes: u32,
    /// With `soak`: `smarthome dev` instead of `serve`.
    #[arg(long)]
    dev: bool,
    /// With `tenants`: the trial of a server with 256 MiB.
    #[arg(long)]
    memory: bool,
    /// With `statements`: this database, which has the rows already, instead of one that is made and filled.
    #[arg(long, value_name = "URL")]
    database: Option<String>,
    /// Leave out the Node server that lists and fan-out are compared with.
    #[arg(long)]
    alone: bool,
    /// What cargo passes to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let size = if args.quick {
        Size { messages: 30_000, rounds: 1, seconds: 2 }
    } else {
        Size { messages: 300_000, rounds: 3, seconds: 10 }
    };
    if let Some((_, names)) = args.filter.split_first().filter(|(first, _)| *first == "statements") {
        return at_size::measure(&at_size::Options { names: names.to_vec(), database: args.database.clone() });
    }
    let mut table = Table::new(args.filter.clone());
    let stage = Stage::start(size, args.server.clone())?;
    if let Some((_, names)) = args.filter.split_first().filter(|(first, _)| *first == "tenants") {
        let (names, broker_files) = (names.to_vec(), args.broker_files.clone());
        return tenants::measure(&stage, &tenants::Options { names, broker_files, memory: args.memory });
    }
    let result = if args.filter.first().is_some_and(|first| first == "soak") {
        soak::measure(&stage, &mut table, &soak::Options { minutes: args.minutes, dev: args.dev })
    } else {
        measure(&stage, &mut table, &args)
    };
    // What was measured before something failed is worth reading too.
    table.print();
    result
}

fn measure(stage: &Stage, table: &mut Table, args: &Args) -> Result<()> {
    let broker = broker_alone::measure(stage, table)?;
    let yardstick = yardstick::Yardstick::prepare(stage)?;
    let insert = table.wants("insert").then(|| insert::measure(stage, table, &yardstick)).transpose()?;
    let limits = [broker.rate, insert];
    let pipe = table.wants("pipe").then(|| pipe::measure(stage, table, &yardstick, limits)).transpose()?;

    let Some(mut server) = start::measure(stage, table)? else { return Ok(()) };
    if table.wants("ingest") {
        ingest::measure(stage, table, &server, &ingest::Limits { insert, pipe, broker: broker.rate })?;
    }
    if table.wants("devices") {
        devices::measure(stage, table, &mut server)?;
    }
    if table.wants("live") {
        live::measure(stage, table, &server, &broker)?;
    }
    if table.wants("streams") {
        device_streams::measure(stage, table, &server)?;
    }
    if table.wants("commands") {
        commands::measure(stage, table, &server)?;
    }
    if table.wants("reconnect") {
        reconnect::measure(stage, table, &mut server)?;
    }
    let compared = table.includes("lists") || table.includes("fan-out");
    let node = if compared && !args.alone { Node::start(stage)? } else { None };
    if table.wants("lists") {
        lists::measure(stage, table, &server, node.as_ref())?;
    }
    if table.wants("fan-out") {
        fan_out::measure(stage, table, &server, node.as_ref())?;
    }
    if args.million_rows > 0 && table.wants("growth") {
        growth::measure(stage, table, &server, args.million_rows)?;
    }
    Ok(())
}
