//! SQL that stores readings: one statement a batch.
//!
//! Every function that writes runs while the transaction holds the ingest lock
//! ([`crate::db::locks::TAKE_INGEST`]). So ids are given out in the order of commits, and no device is deleted
//! between the check in `sql/insert.sql` and the commit.

use chrono::{DateTime, Utc};
use diesel::QueryResult;
use diesel::sql_types::{Array, BigInt, Bool, Double, Jsonb, Nullable, Text, Timestamptz};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use serde_json::Value;

use super::read_store::SensorColumn;
use super::sensors::for_each_sensor;
use super::{NewReading, Reading, TimeSource};
use crate::db::{JsonText, statement};
use crate::ids::{DeviceId, HomeId, TelemetryId};

statement! {
    struct LastCursor("sql/last_cursor.sql") -> BigInt {}
}

/// The newest cursor the table has given out, 0 if none.
pub async fn last_cursor(conn: &mut AsyncPgConnection) -> QueryResult<TelemetryId> {
    LastCursor {}.get_result(conn).await
}

/// Declares a statement that inserts readings, with one array per column.
macro_rules! insert_statement {
    (
        $statement:ident($file:literal) { $($more:ident: $more_sql:ty = $more_type:ty,)* }
        $($field:ident: $type:ty,)*
    ) => {
        statement! {
            struct $statement<'a>($file) -> (BigInt, BigInt, BigInt) {
                home_ids: Array<BigInt> = Vec<HomeId>,
                device_ids: Array<BigInt> = Vec<DeviceId>,
                recorded_at: Array<Timestamptz> = Vec<DateTime<Utc>>,
                received_at: Array<Timestamptz> = Vec<DateTime<Utc>>,
                dedups: Array<BigInt> = Vec<i64>,
                device_clocks: Array<Bool> = Vec<bool>,
                $($field: Array<Nullable<<$type as SensorColumn>::Sql>> = Vec<Option<$type>>,)*
                firmware_versions: Array<Nullable<Text>> = Vec<Option<&'a str>>,
                signal_strengths: Array<Nullable<Double>> = Vec<Option<f64>>,
                battery_levels: Array<Nullable<Double>> = Vec<Option<f64>>,
                extras: Array<Nullable<Jsonb>> = Vec<Option<&'a Value>>,
                metadatas: Array<Nullable<Jsonb>> = Vec<Option<&'a Value>>,
                $($more: $more_sql = $more_type,)*
            }
        }

        impl<'a> $statement<'a> {
            fn of(readings: &[&'a NewReading] $(, $more: $more_type)*) -> Self {
                Self {
                    home_ids: column(readings, |reading| reading.home),
                    device_ids: column(readings, |reading| reading.device),
                    recorded_at: column(readings, |reading| reading.recorded_at),
                    received_at: column(readings, |reading| reading.received_at),
                    dedups: column(readings, |reading| reading.dedup),
                    device_clocks: column(readings, |reading| reading.time_source == TimeSource::Device),
                    $($field: column(readings, |reading| reading.measurement.sensors.$field),)*
                    firmware_versions: column(readings, |reading| reading.measurement.report.firmware_version.as_deref()),
                    signal_strengths: column(readings, |reading| reading.measurement.report.signal_strength),
                    battery_levels: column(readings, |reading| reading.measurement.report.battery_level),
                    extras: column(readings, |reading| reading.measurement.extra.as_ref()),
                    metadatas: column(readings, |reading| reading.measurement.metadata.as_ref()),
                    $($more,)*
                }
            }
        }
    };
}

macro_rules! insert_statements {
    ($($(#[$doc:meta])* $field:ident: $type:ty = $name:literal,)*) => {
        insert_statement! { Insert("sql/insert.sql") {} $($field: $type,)* }
        insert_statement! {
            InsertParked("sql/insert_parked.sql") { reasons: Array<Text> = Vec<&'a str>, } $($field: $type,)*
        }
    };
}
for_each_sensor!(insert_statements);

fn column<'a, T>(readings: &[&'a NewReading], value: impl Fn(&'a NewReading) -> T) -> Vec<T> {
    readings.iter().copied().map(value).collect()
}

/// Inserts the readings in their order and returns the id of each; `None` for one that is stored already or
/// whose device is deleted.
///
/// Sent at the first poll, so that it can be one of several statements in a round trip.
pub async fn insert(conn: &AsyncPgConnection, readings: &[&NewReading]) -> QueryResult<Vec<Option<TelemetryId>>> {
    if readings.is_empty() {
        return Ok(Vec::new());
    }
    let rows: Vec<(TelemetryId, DeviceId, i64)> = Insert::of(readings).load(&mut &*conn).await?;
    Ok(in_order(readings, rows))
}

/// Parks the readings in their order, each with the reason why its month does not take it. Returns whether each was
/// inserted: one that is parked already, or whose device is deleted, was not.
pub async fn insert_parked(conn: &AsyncPgConnection, readings: &[(&NewReading, &str)]) -> QueryResult<Vec<bool>> {
    if readings.is_empty() {
        return Ok(Vec::new());
    }
    let (readings, reasons): (Vec<_>, Vec<_>) = readings.iter().copied().unzip();
    let rows: Vec<(i64, DeviceId, i64)> = InsertParked::of(&readings, reasons).load(&mut &*conn).await?;
    Ok(in_order(&readings, rows).iter().map(Option::is_some).collect())
}

/// The id of each reading that was inserted. Rows come back in the order of the readings, less those that were not.
fn in_order<Id>(readings: &[&NewReading], rows: Vec<(Id, DeviceId, i64)>) -> Vec<Option<Id>> {
    let mut rows = rows.into_iter().peekable();
    let ids = readings
        .iter()
        .map(|reading| {
            rows.next_if(|(_, device, dedup)| *device == reading.device && *dedup == reading.dedup).map(|(id, ..)| id)
        })
        .collect();
    debug_assert!(rows.peek().is_none(), "every returned row was matched");
    ids
}

statement! {
    struct FindCommitted("sql/find_committed.sql") -> (BigInt, BigInt) {
        device_ids: Array<BigInt> = Vec<DeviceId>,
        recorded_at: Array<Timestamptz> = Vec<DateTime<Utc>>,
        dedups: Array<BigInt> = Vec<i64>,
        received_at: Array<Timestamptz> = Vec<DateTime<Utc>>,
    }
}

/// Fills in the ids of readings that an earlier attempt of the same batch committed, though its answer was lost.
pub async fn find_committed(
    conn: &AsyncPgConnection,
    readings: &[&NewReading],
    ids: &mut [Option<TelemetryId>],
) -> QueryResult<()> {
    let missing: Vec<usize> = (0..readings.len()).filter(|index| ids[*index].is_none()).collect();
    let wanted: Vec<&NewReading> = missing.iter().map(|index| readings[*index]).collect();
    let statement = FindCommitted {
        device_ids: column(&wanted, |reading| reading.device),
        recorded_at: column(&wanted, |reading| reading.recorded_at),
        dedups: column(&wanted, |reading| reading.dedup),
        received_at: column(&wanted, |reading| reading.received_at),
    };
    let found: Vec<(i64, TelemetryId)> = statement.load(&mut &*conn).await?;
    for (position, id) in found {
        let position = usize::try_from(position - 1).expect("positions start at 1");
        ids[missing[position]] = Some(id);
    }
    Ok(())
}

impl Reading {
    /// The committed reading.
    pub fn committed(id: TelemetryId, new: &NewReading) -> Self {
        let m = &new.measurement;
        Self {
            id,
            home: new.home,
            device: new.device,
            recorded_at: new.recorded_at,
            received_at: new.received_at,
            time_source: new.time_source,
            sensors: m.sensors.clone(),
            extra: m.extra.as_ref().map(JsonText::of),
            firmware_version: m.report.firmware_version.clone(),
            signal_strength: m.report.signal_strength,
            battery_level: m.report.battery_level,
        }
    }
}
