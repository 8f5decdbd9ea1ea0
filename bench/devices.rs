//! Ingest from 100,000 devices in many homes that speak in turn: warm, after a start of the server, when every address is
//! new to it, and while devices of the largest home are renamed.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::json;

use crate::client::{Http, graphql_request};
use crate::codec::Frame;
use crate::counters::Counters;
use crate::echo::wait_until;
use crate::load::{Publisher, telemetry_frame};
use crate::process;
use crate::server::{self, DATABASE, EMAIL, PREFIX, Server};
use crate::stage::Stage;
use crate::stats::{median, per_second, thousands};
use crate::table::Table;

/// Devices of the largest home, and of each of the others.
const LARGEST: usize = 10_000;
const OTHERS: usize = 1_000;
const HOMES: usize = 91;
const ALL: u64 = 100_000;
/// The devices of other rows.
const FEW: usize = 1_000;
/// Time between two renamings.
const RENAME_EVERY: Duration = Duration::from_millis(200);
/// Time between two looks at `/metrics`. Every 5 ms they took a quarter of the server's processor time.
const LOOK: Duration = Duration::from_millis(50);
/// Nothing new for so long: what is missing is lost.
const SILENCE: Duration = Duration::from_secs(15);
/// A start after this pause: every `lastSeenAt` is old, as after a real one.
const PAUSE: Duration = Duration::from_secs(11);

/// What a round reached.
struct Round {
    rate: f64,
    /// Processor of the server and of PostgreSQL, microseconds a message.
    server: f64,
    database: f64,
}

pub(crate) fn measure(stage: &Stage, table: &mut Table, server: &mut Server) -> Result<()> {
    register(stage)?;
    let device = a_device(stage)?;
    // The first message of a device creates its state: once in its life.
    let first = flood(stage, server, all())?;
    analyze(stage, "device_states")?;
    let (mut few, mut cold, mut warm, mut changed) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..stage.size.rounds {
        wait_until(Instant::now() + PAUSE);
        restart(stage, server)?;
        cold.push(flood(stage, server, all())?);
        warm.push(flood(stage, server, all())?);
        changed.push(while_renaming(server.addr, &server.token()?, &device, || flood(stage, server, all()))?);
        few.push(flood(stage, server, frames(1, FEW))?);
    }
    let [few, cold, warm, changed] = [few, cold, warm, changed].map(|rounds| median_of(&rounds));
    let mut row = |what: &str, round: &Round, limit: Option<(&str, &Round)>, target: &str| {
        let measured = format!("{}/s; {:.1} / {:.1} us", thousands(round.rate), round.server, round.database);
        let ratio = limit.map(|(_, other)| round.rate / other.rate);
        let limit = limit.map(|(name, other)| format!("{name} {}/s", thousands(other.rate)));
        table.row(what, &measured, &limit.unwrap_or_default(), ratio, target);
    };
    row("ingest from 1,000 devices; processor a message, server / PostgreSQL", &few, None, "");
    row("from 100,000 devices in 91 homes", &warm, Some(("1,000 devices", &few)), "");
    row("the same after a start", &cold, Some(("warm", &warm)), "at least 0.8");
    row("the same while devices of the largest home are renamed", &changed, Some(("warm", &warm)), "at least 0.8");
    row("the same, first messages of all devices", &first, Some(("warm", &warm)), "");
    Ok(())
}

/// Homes and devices, of which the user of the other rows owns all.
fn register(stage: &Stage) -> Result<()> {
    let client = stage.connect(DATABASE)?;
    let largest = i32::try_from(LARGEST)?;
    let sql = "with new as (
            insert into homes (key, name) select 'city-' || n, 'City ' || n from generate_series(0, $1::int) n returning id, key
        ), owned as (
            insert into memberships (home_id, user_id, role) select new.id, users.id, 'OWNER' from new, users where email = $2::text
        )
        insert into devices (home_id, key, name, type)
        select id, 'ESP32_BENCHMARK_' || lpad(n::text, greatest(3, length(n::text)), '0'), 'Device ' || n, 'OTHER'
        from new, generate_series(0, case key when 'city-0' then $3::int else $4::int end - 1) n";
    let (homes, others) = (i32::try_from(HOMES)? - 1, i32::try_from(OTHERS)?);
    let made = stage.runtime.block_on(client.execute(sql, &[&homes, &EMAIL, &largest, &others]))?;
    ensure!(made == ALL, "{made} devices were registered");
    analyze(stage, "devices, homes")
}

/// What autovacuum does within a minute.
fn analyze(stage: &Stage, tables: &str) -> Result<()> {
    let client = stage.connect(DATABASE)?;
    Ok(stage.runtime.block_on(client.batch_execute(&format!("vacuum analyze {tables}")))?)
}

/// A device of the largest home.
fn a_device(stage: &Stage) -> Result<String> {
    let client = stage.connect(DATABASE)?;
    let query = "select d.id from devices d join homes h on h.id = home_id where h.key = 'city-0' limit 1";
    let id: i64 = stage.runtime.block_on(client.query_one(query, &[]))?.get(0);
    Ok(id.to_string())
}

/// What all devices send.
fn all() -> Vec<Frame> {
    let others = (1..HOMES).flat_map(|home| frames(home, OTHERS));
    frames(0, LARGEST).into_iter().chain(others).collect()
}

/// What the first devices of a home send.
fn frames(home: usize, devices: usize) -> Vec<Frame> {
    let home = format!("city-{home}");
    (0..devices).map(|device| telemetry_frame(PREFIX, &home, device)).collect()
}

fn restart(stage: &Stage, server: &mut Server) -> Result<()> {
    server.process.terminate()?;
    stage.settle()?;
    (server.process, server.addr, _) = server::start(stage, &stage.url(DATABASE)?)?;
    Ok(())
}

/// 100,000 messages, one of each frame in turn, until all are stored.
fn flood(stage: &Stage, server: &Server, frames: Vec<Frame>) -> Result<Round> {
    let (addr, pid) = (server.addr, server.process.id());
    let numbers = stage.numbers.take(ALL);
    let before = Counters::of(addr)?;
    let cpu = || anyhow::Ok([process::cpu(pid, false), stage.database_cpu()?]);
    let spent = cpu()?;
    let begun = Instant::now();
    let load = thread::spawn({
        let (port, run) = (stage.mqtt_port, stage.numbers.clone());
        move || Publisher::with_frames(port, "bench-load-city", frames, &run)?.flood(numbers)
    });
    await_stored(addr, &before)?;
    let time = begun.elapsed();
    load.join().expect("the load does not panic").context("publish the load")?;
    let [server, database] = cpu()?;
    let micros = |after: Duration, before: Duration| 1_000_000.0 / per_second(ALL, after.saturating_sub(before));
    Ok(Round { rate: per_second(ALL, time), server: micros(server, spent[0]), database: micros(database, spent[1]) })
}

fn await_stored(addr: SocketAddr, before: &Counters) -> Result<()> {
    let (mut seen, mut changed) = (0, Instant::now());
    loop {
        let now = Counters::of(addr)?.since(before);
        if now.stored >= ALL {
            return Ok(());
        }
        if now.stored != seen {
            (seen, changed) = (now.stored, Instant::now());
        }
        ensure!(changed.elapsed() < SILENCE, "messages are missing: {now}");
        wait_until(Instant::now() + LOOK);
    }
}

/// Renames a device again and again while something is measured.
fn while_renaming<T>(addr: SocketAddr, token: &str, device: &str, measure: impl FnOnce() -> Result<T>) -> Result<T> {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let renaming = scope.spawn(|| {
            let query = "mutation($id: ID!, $name: String) { updateDevice(input: {id: $id, name: $name}) { id } }";
            let mut http = Http::connect(addr)?;
            for index in 0.. {
                if over.load(Ordering::Relaxed) {
                    break;
                }
                let variables = json!({"id": device, "name": format!("Name {index}")});
                let (status, _) = http.exchange(&graphql_request(Some(token), query, &variables))?;
                ensure!(status == 200, "a device was not renamed: {status}");
                wait_until(Instant::now() + RENAME_EVERY);
            }
            Ok(())
        });
        let measured = measure();
        over.store(true, Ordering::Relaxed);
        renaming.join().expect("no panic")?;
        measured
    })
}

fn median_of(rounds: &[Round]) -> Round {
    let of = |figure: fn(&Round) -> f64| median(rounds.iter().map(figure).collect());
    Round { rate: of(|round| round.rate), server: of(|round| round.server), database: of(|round| round.database) }
}
