//! Whether a full table is slower than an empty one: ingest, lists and the replay of a subscription beside ever more stored
//! rows, spread over two years.

use std::fmt::Write;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::client::{Http, ask, graphql_request};
use crate::ingest::flood;
use crate::lists::{DEVICES_QUERY, READINGS_QUERY};
use crate::messages::DEVICES;
use crate::server::{DATABASE, Endpoint, HOME, Server};
use crate::socket::Subscriber;
use crate::stage::Stage;
use crate::stats::{median, millis, percentile, thousands_of};
use crate::table::Table;

const MILLION: u64 = 1_000_000;
/// Rows of one statement that fills the table.
const CHUNK: u64 = 250_000;
/// Months that the rows are spread over, before the present one.
const MONTHS: i32 = 24;
/// Requests of a percentile.
const REQUESTS: usize = 300;
/// Readings of a device that a subscriber has missed.
const MISSED: usize = 100;
/// Times that it resumes.
const RESUMES: usize = 100;

/// What was measured beside a number of rows.
struct Beside {
    rows: u64,
    ingest: f64,
    devices: Times,
    readings: Times,
    resume: Times,
}

/// Half of the requests were answered within the first, 95 of 100 within the second.
#[derive(Clone, Copy)]
struct Times {
    p50: Duration,
    p95: Duration,
}

impl Times {
    fn of(times: &[Duration]) -> Result<Self> {
        let at = |percent| percentile(times, percent).context("a request");
        Ok(Self { p50: at(50)?, p95: at(95)? })
    }
}

pub(crate) fn measure(stage: &Stage, table: &mut Table, server: &Server, million_rows: u64) -> Result<()> {
    partitions(stage)?;
    flood(stage, (MISSED as u64 + 1) * DEVICES as u64)?;
    let (mut stored, mut figures) = (0, Vec::new());
    for rows in [0, MILLION.min(million_rows * MILLION), million_rows * MILLION] {
        if rows == stored && rows > 0 {
            continue;
        }
        while stored < rows {
            fill(stage, stored, CHUNK.min(rows - stored))?;
            stored += CHUNK.min(rows - stored);
        }
        figures.push(beside(stage, server, rows)?);
        let last = figures.last().expect("just pushed");
        table.row(&format!("beside {} rows: ingest", thousands_of(rows)), &last.text(), "", None, "");
    }
    let (Some(none), Some(most)) = (figures.first(), figures.last()) else { return Ok(()) };
    let all = thousands_of(most.rows);
    table.row(&format!("ingest beside {all} rows"), "", "none", Some(most.ingest / none.ingest), "at least 0.9");
    let mut flat = |what: &str, of: fn(&Beside) -> Times| {
        let (most, none) = (of(most), of(none));
        let ratio = most.p95.as_secs_f64() / none.p95.as_secs_f64();
        let (measured, limit) = (millis(most.p95), format!("none {}", millis(none.p95)));
        table.row(&format!("{what} beside {all} rows, p95"), &measured, &limit, Some(ratio), "about 1");
    };
    flat("50 devices with latest telemetry", |beside| beside.devices);
    flat("last 100 readings", |beside| beside.readings);
    flat("resume after 100 readings", |beside| beside.resume);
    Ok(())
}

impl Beside {
    fn text(&self) -> String {
        let mut text = format!("{}/s; p50 and p95 of", crate::stats::thousands(self.ingest));
        for (what, time) in [("devices", self.devices), ("readings", self.readings), ("resume", self.resume)] {
            let _ = write!(text, " {what} {}, {}", millis(time.p50), millis(time.p95));
        }
        text
    }
}

/// A partition for each month, by the name that the server would give it.
fn partitions(stage: &Stage) -> Result<()> {
    let sql = format!(
        "do $$ declare month timestamptz; begin
            for month in select date_trunc('month', now(), 'UTC') - n * interval '1 month' from generate_series(1, {MONTHS}) n
            loop
                execute format('create table if not exists %I partition of telemetry for values from (%L) to (%L)',
                    to_char(month at time zone 'UTC', '\"telemetry_\"YYYY_MM'), month, month + interval '1 month');
            end loop;
        end $$"
    );
    let client = stage.connect(DATABASE)?;
    stage.runtime.block_on(client.batch_execute("set time zone 'UTC'"))?;
    Ok(stage.runtime.block_on(client.batch_execute(&sql))?)
}

/// Stores rows as ingest would have: the devices in turn, each month in its turn.
fn fill(stage: &Stage, from: u64, rows: u64) -> Result<()> {
    let sql = "insert into telemetry (home_id, device_id, recorded_at, received_at, dedup, device_clock, gas_ppm, flame, \
            bin_level, power_w, energy_kwh, voltage_v, current_a, temperature, humidity, firmware_version, signal_strength) \
        select h.id, ids[1 + n % cardinality(ids)], at, at, n, true, 450, false, 45.2, 120.5, 2.45, 220.3, 0.55, 23.5, 65.2, \
            'v2.1.0', -45 \
        from homes h, lateral (select array_agg(d.id order by d.id) from devices d where d.home_id = h.id) d (ids), \
            generate_series($2::bigint, $2 + $3::bigint - 1) n, \
            lateral (select date_trunc('month', now(), 'UTC') - interval '1 day' * (730 - 729.0 * (n % $4) / $4)) t (at) \
        where h.key = $1 and at < date_trunc('month', now(), 'UTC')";
    let (from, rows, spread) = (i64::try_from(from)?, i64::try_from(rows)?, i64::try_from(MILLION)?);
    let client = stage.connect(DATABASE)?;
    let stored = stage.runtime.block_on(client.execute(sql, &[&HOME, &from, &rows, &spread]))?;
    ensure!(i64::try_from(stored)? == rows, "{stored} of {rows} rows were stored");
    Ok(())
}

fn beside(stage: &Stage, server: &Server, rows: u64) -> Result<Beside> {
    let client = stage.connect(DATABASE)?;
    stage.runtime.block_on(client.batch_execute("vacuum analyze telemetry"))?;
    stage.settle()?;
    let rates = (0..stage.size.rounds).map(|_| flood(stage, stage.size.messages / 3));
    let ingest = median(rates.collect::<Result<_>>()?);
    // What the floods have left in memory would be written out beside the requests.
    stage.settle()?;
    let endpoint = server.endpoint()?;
    let devices = list(&endpoint, DEVICES_QUERY, &server.home)?;
    let readings = list(&endpoint, READINGS_QUERY, &server.devices[0])?;
    let resume = resume(stage, &endpoint, &server.devices[0])?;
    Ok(Beside { rows, ingest, devices, readings, resume })
}

/// Times of a list on one connection.
fn list(endpoint: &Endpoint, query: &str, id: &str) -> Result<Times> {
    let request = graphql_request(Some(&endpoint.token), query, &json!({ "id": id }));
    let (mut http, mut times) = (Http::connect(endpoint.addr)?, Vec::new());
    for _ in 0..REQUESTS {
        let asked = Instant::now();
        let (status, body) = http.exchange(&request)?;
        ensure!(status == 200, "{status}: {}", String::from_utf8_lossy(body));
        times.push(asked.elapsed());
    }
    Times::of(&times)
}

/// Times from the start of a subscription to the last reading that its subscriber had missed.
fn resume(stage: &Stage, endpoint: &Endpoint, device: &str) -> Result<Times> {
    let query =
        format!("query($id: ID!) {{ device(id: $id) {{ telemetry(first: {}) {{ nodes {{ id }} }} }} }}", MISSED + 1);
    let answer = ask(endpoint.addr, Some(&endpoint.token), &query, &json!({ "id": device }))?;
    let cursor = answer.pointer(&format!("/device/telemetry/nodes/{MISSED}/id")).and_then(Value::as_str);
    let cursor = cursor.with_context(|| format!("{device} has sent too little"))?;
    let query =
        format!("subscription($id: ID!) {{ telemetry(deviceId: $id, after: \"{cursor}\") {{ id recordedAt }} }}");
    let mut times = Vec::new();
    for _ in 0..RESUMES {
        times.push(stage.runtime.block_on(resumed(endpoint, &query, device))?);
    }
    Times::of(&times)
}

async fn resumed(endpoint: &Endpoint, query: &str, device: &str) -> Result<Duration> {
    let mut subscriber = Subscriber::open(endpoint.addr, &endpoint.token).await?;
    let begun = Instant::now();
    subscriber.subscribe(query, device).await?;
    for _ in 0..MISSED {
        let event = subscriber.next().await?;
        ensure!(event.contains("recordedAt"), "expected a reading, got {event}");
    }
    Ok(begun.elapsed())
}
