//! The yardstick of ingest: the shortest program that keeps the promise. Subscribe, parse, insert a
//! batch, acknowledge it in order, and nothing else: no device table, no reconnect, no subscribers.
//!
//! One thread, one task that reads and one that writes; a batch is whatever came while the last one
//! was being committed.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex};
use std::time::{Instant, SystemTime};

use anyhow::{Context, Result, bail, ensure};
use chrono::{DateTime, Datelike, Months, Utc};
use serde::Deserialize;
use smarthome::clock::Clock;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::Notify;

use crate::codec::{self, PUBLISH, Packets, Publish};
use crate::insert::{self, BATCH, Columns};
use crate::load::flood_in_background;
use crate::messages::{DEVICES, key};
use crate::stage::Stage;
use crate::stats::{median, per_second, thousands};
use crate::table::Table;

const DATABASE: &str = "yardstick";
const PREFIX: &str = "yardstick";
/// Messages read and not yet committed; then reading stops.
const MOST_WAITING: usize = 4 * BATCH;

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

/// Messages a second.
pub(crate) fn measure(stage: &Stage, table: &mut Table, yardstick: &Yardstick, insert: Option<f64>) -> Result<f64> {
    let n = stage.size.messages;
    let mut rates = Vec::new();
    for _ in 0..stage.size.rounds {
        yardstick.empty(stage)?;
        let client = stage.connect(DATABASE)?;
        let range = stage.numbers.take(n);
        let mut stream = codec::connect(stage.mqtt_port, "bench-pipe")?;
        codec::subscribe(&mut stream, &format!("{PREFIX}/+/+/telemetry"))?;
        stream.set_nonblocking(true)?;
        let start = Instant::now();
        let load = flood_in_background(stage.mqtt_port, PREFIX, "1", &stage.numbers, range);
        stage.runtime.block_on(run(stream, &client, n))?;
        rates.push(per_second(n, start.elapsed()));
        load.join().expect("the load does not panic")?;
        let stored: i64 = stage.runtime.block_on(client.query_one("select count(*) from telemetry", &[]))?.get(0);
        ensure!(u64::try_from(stored)? == n, "the bare pipe stored {stored} of {n} messages");
    }
    let rate = median(rates);
    let limit = insert.map(|insert| format!("{} rows/s alone", thousands(insert))).unwrap_or_default();
    let what = "bare pipe: subscribe, INSERT, acknowledge";
    table.row(what, &format!("{}/s", thousands(rate)), &limit, insert.map(|insert| rate / insert), "");
    Ok(rate)
}

#[derive(Default)]
struct Queue {
    rows: Mutex<(Columns, Vec<u8>)>,
    filled: Notify,
    emptied: Notify,
}

async fn run(stream: std::net::TcpStream, client: &tokio_postgres::Client, n: u64) -> Result<()> {
    let (reading, writing) = tokio::net::TcpStream::from_std(stream)?.into_split();
    let queue = Arc::new(Queue::default());
    let reader = tokio::spawn(read(reading, queue.clone(), n));
    write(writing, client, &queue, n).await?;
    reader.await?
}

async fn read(mut stream: OwnedReadHalf, queue: Arc<Queue>, n: u64) -> Result<()> {
    let (mut packets, mut parser, mut bytes) = (Packets::default(), Parser::new(), vec![0; 64 * 1024]);
    let mut left = n;
    while left > 0 {
        let read = stream.read(&mut bytes).await?;
        if read == 0 {
            bail!("the broker closed the pipe's connection");
        }
        packets.feed(&bytes[..read]);
        let waiting = {
            let mut rows = queue.rows.lock().expect("no panic while locked");
            let received_at = SystemTime::now();
            while let Some((kind, body)) = packets.next() {
                if kind == PUBLISH {
                    let publish = Publish::parse(body).context("a PUBLISH of QoS 1")?;
                    parser.push(&mut rows.0, publish.payload, received_at)?;
                    rows.1.extend(codec::puback(publish.packet_id));
                    left -= 1;
                }
            }
            rows.0.len()
        };
        queue.filled.notify_one();
        if waiting >= MOST_WAITING {
            queue.emptied.notified().await;
        }
    }
    Ok(())
}

async fn write(mut stream: OwnedWriteHalf, client: &tokio_postgres::Client, queue: &Queue, n: u64) -> Result<()> {
    let statement = insert::prepare(client).await?;
    let mut left = n;
    while left > 0 {
        queue.filled.notified().await;
        let (rows, acks) = std::mem::take(&mut *queue.rows.lock().expect("no panic while locked"));
        if rows.len() == 0 {
            continue;
        }
        queue.emptied.notify_one();
        insert::insert(client, &statement, &rows).await?;
        left = left.saturating_sub(rows.len() as u64);
        stream.write_all(&acks).await?;
    }
    Ok(())
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Telemetry<'a> {
    timestamp: &'a str,
    device_id: &'a str,
    sensors: Sensors,
    metadata: Metadata<'a>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Sensors {
    current: Option<f64>,
    gas_ppm: Option<f64>,
    flame: Option<bool>,
    bin_level: Option<f64>,
    power_w: Option<f64>,
    energy_kwh: Option<f64>,
    voltage_v: Option<f64>,
    current_a: Option<f64>,
    frequency_hz: Option<f64>,
    power_factor: Option<f64>,
    distance_cm: Option<f64>,
    temperature: Option<f64>,
    humidity: Option<f64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata<'a> {
    firmware_version: Option<&'a str>,
    signal_strength: Option<f64>,
    battery_level: Option<f64>,
}

/// Payload to row, with the ids of the run's devices.
pub(crate) struct Parser(HashMap<String, i64>);

impl Parser {
    pub(crate) fn new() -> Self {
        Self((0..DEVICES).map(key).zip(1..).collect())
    }

    pub(crate) fn push(&mut self, rows: &mut Columns, payload: &[u8], received_at: SystemTime) -> Result<()> {
        let message: Telemetry<'_> = serde_json::from_slice(payload)?;
        let mut digest = DefaultHasher::new();
        payload.hash(&mut digest);
        rows.device.push(*self.0.get(message.device_id).context("a device of the run")?);
        rows.recorded_at.push(message.timestamp.parse::<DateTime<Utc>>()?.into());
        rows.received_at.push(received_at);
        rows.dedup.push(digest.finish().cast_signed());
        rows.flame.push(message.sensors.flame);
        rows.firmware.push(message.metadata.firmware_version.map(str::to_owned));
        let (s, m) = (message.sensors, message.metadata);
        let values = [
            s.current,
            s.gas_ppm,
            s.bin_level,
            s.power_w,
            s.energy_kwh,
            s.voltage_v,
            s.current_a,
            s.frequency_hz,
            s.power_factor,
            s.distance_cm,
            s.temperature,
            s.humidity,
            m.signal_strength,
            m.battery_level,
        ];
        rows.floats.iter_mut().zip(values).for_each(|(column, value)| column.push(value));
        Ok(())
    }
}
