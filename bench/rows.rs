//! Payloads as rows, and the INSERT that stores them: shared by the yardsticks.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::SystemTime;

use anyhow::{Context, Result};
use chrono::{DateTime, Utc};
use serde::Deserialize;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Statement};

use crate::messages::{DEVICES, key};

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
