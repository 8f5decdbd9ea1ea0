//! SQL that reads readings back; the row's shape stands here once.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use serde_json::Value;

use super::{Reading, Sensors, TimeSource};
use crate::db::schema::telemetry;
use crate::ids::{DeviceId, HomeId, TelemetryId};

/// The columns of a [`Reading`].
#[derive(Debug, Queryable, QueryableByName, Selectable)]
#[diesel(table_name = telemetry, check_for_backend(diesel::pg::Pg))]
pub(super) struct Row {
    pub(super) id: TelemetryId,
    pub(super) home_id: HomeId,
    pub(super) device_id: DeviceId,
    pub(super) recorded_at: DateTime<Utc>,
    pub(super) received_at: DateTime<Utc>,
    pub(super) device_clock: bool,
    pub(super) current: Option<f64>,
    pub(super) gas_ppm: Option<f64>,
    pub(super) flame: Option<bool>,
    pub(super) bin_level: Option<f64>,
    pub(super) power_w: Option<f64>,
    pub(super) energy_kwh: Option<f64>,
    pub(super) voltage_v: Option<f64>,
    pub(super) current_a: Option<f64>,
    pub(super) frequency_hz: Option<f64>,
    pub(super) power_factor: Option<f64>,
    pub(super) distance_cm: Option<f64>,
    pub(super) temperature: Option<f64>,
    pub(super) humidity: Option<f64>,
    pub(super) firmware_version: Option<String>,
    pub(super) signal_strength: Option<f64>,
    pub(super) battery_level: Option<f64>,
    pub(super) extra: Option<Value>,
}

impl From<Row> for Reading {
    fn from(row: Row) -> Self {
        Self {
            id: row.id,
            home: row.home_id,
            device: row.device_id,
            recorded_at: row.recorded_at,
            received_at: row.received_at,
            time_source: if row.device_clock { TimeSource::Device } else { TimeSource::Server },
            sensors: Sensors {
                current: row.current,
                gas_ppm: row.gas_ppm,
                flame: row.flame,
                bin_level: row.bin_level,
                power_w: row.power_w,
                energy_kwh: row.energy_kwh,
                voltage_v: row.voltage_v,
                current_a: row.current_a,
                frequency_hz: row.frequency_hz,
                power_factor: row.power_factor,
                distance_cm: row.distance_cm,
                temperature: row.temperature,
                humidity: row.humidity,
            },
            extra: row.extra,
            firmware_version: row.firmware_version,
            signal_strength: row.signal_strength,
            battery_level: row.battery_level,
        }
    }
}

/// What was committed in a home (or by one device of it) after a cursor, oldest first.
pub(super) async fn after(
    conn: &mut AsyncPgConnection,
    home: HomeId,
    device: Option<DeviceId>,
    cursor: TelemetryId,
    limit: i64,
) -> QueryResult<Vec<Reading>> {
    let mut query = telemetry::table
        .filter(telemetry::home_id.eq(home))
        .filter(telemetry::id.gt(cursor))
        .order(telemetry::id)
        .limit(limit)
        .select(Row::as_select())
        .into_boxed();
    if let Some(device) = device {
        query = query.filter(telemetry::device_id.eq(device));
    }
    let rows: Vec<Row> = query.load(conn).await?;
    Ok(rows.into_iter().map(Reading::from).collect())
}
