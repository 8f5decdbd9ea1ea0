//! The same INSERT without us: rows that are ready in memory, a thousand a statement, into the
//! server's own partitioned table. Nothing that stores by one connection can be faster.

use std::time::{Duration, Instant, SystemTime};

use anyhow::{Result, ensure};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Statement};

use crate::messages::{DEVICES, payload};
use crate::pipe::{Parser, Yardstick};
use crate::stage::Stage;
use crate::stats::{median, per_second, thousands};
use crate::table::Table;

/// Rows in one statement.
pub(crate) const BATCH: usize = 1_000;

const INSERT: &str = "insert into telemetry (home_id, device_id, recorded_at, received_at, dedup, device_clock, current, \
    gas_ppm, flame, bin_level, power_w, energy_kwh, voltage_v, current_a, frequency_hz, power_factor, distance_cm, \
    temperature, humidity, firmware_version, signal_strength, battery_level) \
    select 1, d, r, v, x, true, c1, c2, c3, c4, c5, c6, c7, c8, c9, c10, c11, c12, c13, c14, c15, c16 \
    from unnest($1::bigint[], $2::timestamptz[], $3::timestamptz[], $4::bigint[], \
    $5::float8[], $6::float8[], $7::boolean[], $8::float8[], $9::float8[], $10::float8[], $11::float8[], $12::float8[], \
    $13::float8[], $14::float8[], $15::float8[], $16::float8[], $17::float8[], $18::text[], $19::float8[], $20::float8[]) \
    as rows (d, r, v, x, c1, c2, c3, c4, c5, c6, c7, c8, c9, c10, c11, c12, c13, c14, c15, c16) \
    on conflict do nothing";

type Floats = Vec<Option<f64>>;

/// A batch as columns.
#[derive(Default)]
pub(crate) struct Columns {
    pub(crate) device: Vec<i64>,
    pub(crate) recorded_at: Vec<SystemTime>,
    pub(crate) received_at: Vec<SystemTime>,
    pub(crate) dedup: Vec<i64>,
    pub(crate) flame: Vec<Option<bool>>,
    pub(crate) firmware: Vec<Option<String>>,
    /// The twelve numeric readings in the table's order, then signal and battery.
    pub(crate) floats: [Floats; 14],
}

impl Columns {
    pub(crate) fn len(&self) -> usize {
        self.device.len()
    }

    /// The statement's values, in its order.
    fn values(&self) -> [&(dyn ToSql + Sync); 20] {
        let f = &self.floats;
        [
            &self.device,
            &self.recorded_at,
            &self.received_at,
            &self.dedup,
            &f[0],
            &f[1],
            &self.flame,
            &f[2],
            &f[3],
            &f[4],
            &f[5],
            &f[6],
            &f[7],
            &f[8],
            &f[9],
            &f[10],
            &f[11],
            &self.firmware,
            &f[12],
            &f[13],
        ]
    }
}

/// Prepares the statement once.
pub(crate) async fn prepare(client: &Client) -> Result<Statement> {
    Ok(client.prepare(INSERT).await?)
}

/// One batch, one statement, one commit.
pub(crate) async fn insert(client: &Client, statement: &Statement, rows: &Columns) -> Result<u64> {
    Ok(client.execute(statement, &rows.values()).await?)
}

/// Rows a second.
pub(crate) fn measure(stage: &Stage, table: &mut Table, yardstick: &Yardstick) -> Result<f64> {
    let mut rates = Vec::new();
    for _ in 0..stage.size.rounds {
        yardstick.empty(stage)?;
        let batches = batches(stage);
        let client = stage.connect(yardstick.database())?;
        let time: Duration = stage.runtime.block_on(async {
            let statement = prepare(&client).await?;
            let start = Instant::now();
            for batch in &batches {
                let stored = insert(&client, &statement, batch).await?;
                ensure!(stored == batch.len() as u64, "{stored} of {} rows were stored", batch.len());
            }
            anyhow::Ok(start.elapsed())
        })?;
        rates.push(per_second(stage.size.messages, time));
    }
    let rate = median(rates);
    table.row("the same INSERT alone, UNNEST of 1,000 rows", &format!("{} rows/s", thousands(rate)), "", None, "");
    Ok(rate)
}

fn batches(stage: &Stage) -> Vec<Columns> {
    let mut stamper = stage.numbers.stamper();
    let mut parser = Parser::new();
    let mut payloads: Vec<Vec<u8>> = (0..DEVICES).map(|device| payload(device).into_bytes()).collect();
    let numbers: Vec<u64> = stage.numbers.take(stage.size.messages).collect();
    let batch = |numbers: &[u64]| {
        let mut rows = Columns::default();
        for (device, number) in (0..).zip(numbers) {
            let payload = &mut payloads[device % DEVICES];
            stamper.stamp(payload, *number);
            parser.push(&mut rows, payload, SystemTime::now()).expect("our own payload");
        }
        rows
    };
    numbers.chunks(BATCH).map(batch).collect()
}
