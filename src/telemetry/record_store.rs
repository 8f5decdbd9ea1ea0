//! SQL that records readings: one statement a batch, and the months they fall into.
//!
//! Only ever run behind the ingest gate ([`crate::db::locks::TAKE_INGEST`]): ids are taken in the order of
//! commits, and no device vanishes between the join and the commit.

use chrono::{DateTime, Datelike, Utc};
use diesel::pg::Pg;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::sql_types::{Array, BigInt, Bool, Double, Jsonb, Nullable, Text, Timestamptz};
use diesel::{QueryResult, QueryableByName};
use diesel_async::{AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection};
use serde_json::Value;

use super::{NewReading, Reading, Sensors, TimeSource};
use crate::db::JsonText;
use crate::ids::{DeviceId, TelemetryId};

/// A calendar month in UTC: the span of one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Month {
    year: i32,
    month: u32,
}

impl Month {
    /// The month of an instant.
    pub fn of(at: DateTime<Utc>) -> Self {
        Self { year: at.year(), month: at.month() }
    }

    fn next(self) -> Self {
        if self.month == 12 { Self { year: self.year + 1, month: 1 } } else { Self { month: self.month + 1, ..self } }
    }
}

/// Makes a month's partition where it is missing. Attached to the table, not created in it: that
/// waits for no reader, and a dump that runs for hours holds up nothing.
pub async fn ensure_month(conn: &mut AsyncPgConnection, month: Month) -> QueryResult<()> {
    let next = month.next();
    let Month { year, month } = month;
    let name = format!("telemetry_{year}_{month:02}");
    conn.batch_execute(&format!(
        "do $$ begin
            if to_regclass('{name}') is null then
                create table {name} (like telemetry including defaults including constraints);
                alter table telemetry attach partition {name}
                    for values from ('{year}-{month:02}-01 00:00:00Z') to ('{}-{:02}-01 00:00:00Z');
            end if;
        end $$",
        next.year, next.month
    ))
    .await
}

/// The newest cursor the table has given out, 0 if none; a place to start from for who has seen nothing.
pub async fn last_cursor(conn: &mut AsyncPgConnection) -> QueryResult<TelemetryId> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = BigInt)]
        last_value: TelemetryId,
    }
    // A sequence that was never asked says 1 already.
    let newest = "select case when is_called then last_value else 0 end as last_value from telemetry_id_seq";
    let row: Row = diesel::sql_query(newest).get_result(conn).await?;
    Ok(row.last_value)
}

/// One column per field of the batch.
#[derive(Debug, Default)]
struct Insert {
    home: Vec<i64>,
    device: Vec<i64>,
    recorded_at: Vec<DateTime<Utc>>,
    received_at: Vec<DateTime<Utc>>,
    dedup: Vec<i64>,
    device_clock: Vec<bool>,
    /// The twelve numbers in the order of [`numbers`].
    numbers: [Vec<Option<f64>>; 12],
    flame: Vec<Option<bool>>,
    firmware: Vec<Option<String>>,
    signal: Vec<Option<f64>>,
    battery: Vec<Option<f64>>,
    extra: Vec<Option<Value>>,
    metadata: Vec<Option<Value>>,
}

/// The numeric readings in the order of the statement's columns.
fn numbers(sensors: &Sensors) -> [Option<f64>; 12] {
    let s = sensors;
    [
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
    ]
}

impl Insert {
    fn push(&mut self, reading: &NewReading) {
        self.home.push(reading.home.get());
        self.device.push(reading.device.get());
        self.recorded_at.push(reading.recorded_at);
        self.received_at.push(reading.received_at);
        self.dedup.push(reading.dedup);
        self.device_clock.push(reading.time_source == TimeSource::Device);
        for (column, value) in self.numbers.iter_mut().zip(numbers(&reading.measurement.sensors)) {
            column.push(value);
        }
        self.flame.push(reading.measurement.sensors.flame);
        self.firmware.push(reading.measurement.report.firmware_version.clone());
        self.signal.push(reading.measurement.report.signal_strength);
        self.battery.push(reading.measurement.report.battery_level);
        self.extra.push(reading.measurement.extra.clone());
        self.metadata.push(reading.measurement.metadata.clone());
    }
}

impl QueryFragment<Pg> for Insert {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql(
            "insert into telemetry (home_id, device_id, recorded_at, received_at, dedup, device_clock, current,
                gas_ppm, bin_level, power_w, energy_kwh, voltage_v, current_a, frequency_hz, power_factor,
                distance_cm, temperature, humidity, flame, firmware_version, signal_strength, battery_level,
                extra, metadata)
             select n.home_id, n.device_id, n.recorded_at, n.received_at, n.dedup, n.device_clock, n1, n2, n3, n4, n5,
                n6, n7, n8, n9, n10, n11, n12, n.flame, n.firmware_version, n.signal_strength, n.battery_level,
                n.extra, n.metadata
             from unnest(",
        );
        out.push_bind_param::<Array<BigInt>, _>(&self.home)?;
        out.push_sql(", ");
        out.push_bind_param::<Array<BigInt>, _>(&self.device)?;
        out.push_sql(", ");
        out.push_bind_param::<Array<Timestamptz>, _>(&self.recorded_at)?;
        out.push_sql(", ");
        out.push_bind_param::<Array<Timestamptz>, _>(&self.received_at)?;
        out.push_sql(", ");
        out.push_bind_param::<Array<BigInt>, _>(&self.dedup)?;
        out.push_sql(", ");
        out.push_bind_param::<Array<Bool>, _>(&self.device_clock)?;
        for column in &self.numbers {
            out.push_sql(", ");
            out.push_bind_param::<Array<Nullable<Double>>, _>(column)?;
        }
        out.push_sql(", ");
        out.push_bind_param::<Array<Nullable<Bool>>, _>(&self.flame)?;
        out.push_sql(", ");
        out.push_bind_param::<Array<Nullable<Text>>, _>(&self.firmware)?;
        out.push_sql(", ");
        out.push_bind_param::<Array<Nullable<Double>>, _>(&self.signal)?;
        out.push_sql(", ");
        out.push_bind_param::<Array<Nullable<Double>>, _>(&self.battery)?;
        out.push_sql(", ");
        out.push_bind_param::<Array<Nullable<Jsonb>>, _>(&self.extra)?;
        out.push_sql(", ");
        out.push_bind_param::<Array<Nullable<Jsonb>>, _>(&self.metadata)?;
        out.push_sql(
            ") with ordinality n (home_id, device_id, recorded_at, received_at, dedup, device_clock, n1, n2, n3, n4,
                n5, n6, n7, n8, n9, n10, n11, n12, flame, firmware_version, signal_strength, battery_level, extra,
                metadata, position)
             where exists (select from devices d where d.id = n.device_id and d.home_id = n.home_id)
             order by n.position
             on conflict do nothing
             returning id, device_id, dedup",
        );
        Ok(())
    }
}

impl QueryId for Insert {
    type QueryId = Self;
    const HAS_STATIC_QUERY_ID: bool = true;
}

impl Query for Insert {
    type SqlType = (BigInt, BigInt, BigInt);
}

/// Inserts the readings in their order and tells for each the id it got; `None` where it stands
/// there already or its device is no more.
///
/// Sent at the first poll, so that it can be one of several in a round trip.
pub async fn insert(conn: &AsyncPgConnection, readings: &[&NewReading]) -> QueryResult<Vec<Option<TelemetryId>>> {
    if readings.is_empty() {
        return Ok(Vec::new());
    }
    let mut insert = Insert::default();
    for reading in readings {
        insert.push(reading);
    }
    let rows: Vec<(TelemetryId, DeviceId, i64)> = insert.load(&mut &*conn).await?;
    // Rows come back in the order they went in, less those that were not inserted.
    let mut rows = rows.into_iter().peekable();
    let ids = readings
        .iter()
        .map(|reading| {
            rows.next_if(|(_, device, dedup)| *device == reading.device && *dedup == reading.dedup).map(|(id, ..)| id)
        })
        .collect();
    debug_assert!(rows.peek().is_none(), "every returned row was matched");
    Ok(ids)
}

/// Looks for readings that an earlier attempt of the same batch may have committed without our
/// hearing of it. The time of receipt tells them from a device's resend of what it sent before.
#[derive(Debug, Default)]
struct Recover {
    device: Vec<i64>,
    recorded_at: Vec<DateTime<Utc>>,
    dedup: Vec<i64>,
    received_at: Vec<DateTime<Utc>>,
}

impl QueryFragment<Pg> for Recover {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql("select n.position, t.id from unnest(");
        out.push_bind_param::<Array<BigInt>, _>(&self.device)?;
        out.push_sql(", ");
        out.push_bind_param::<Array<Timestamptz>, _>(&self.recorded_at)?;
        out.push_sql(", ");
        out.push_bind_param::<Array<BigInt>, _>(&self.dedup)?;
        out.push_sql(", ");
        out.push_bind_param::<Array<Timestamptz>, _>(&self.received_at)?;
        out.push_sql(
            ") with ordinality n (device_id, recorded_at, dedup, received_at, position)
             join telemetry t using (device_id, recorded_at, dedup, received_at)",
        );
        Ok(())
    }
}

impl QueryId for Recover {
    type QueryId = Self;
    const HAS_STATIC_QUERY_ID: bool = true;
}

impl Query for Recover {
    type SqlType = (BigInt, BigInt);
}

/// Fills in the ids of readings that an earlier attempt has committed.
pub async fn find_committed(
    conn: &AsyncPgConnection,
    readings: &[&NewReading],
    ids: &mut [Option<TelemetryId>],
) -> QueryResult<()> {
    let mut recover = Recover::default();
    let mut places = Vec::new();
    for (place, reading) in readings.iter().enumerate().filter(|(place, _)| ids[*place].is_none()) {
        recover.device.push(reading.device.get());
        recover.recorded_at.push(reading.recorded_at);
        recover.dedup.push(reading.dedup);
        recover.received_at.push(reading.received_at);
        places.push(place);
    }
    let found: Vec<(i64, TelemetryId)> = recover.load(&mut &*conn).await?;
    for (position, id) in found {
        let position = usize::try_from(position - 1).expect("positions start at 1");
        ids[places[position]] = Some(id);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_year_ends_in_january() {
        let december = Month::of("2026-12-31T23:59:59Z".parse().unwrap());
        assert_eq!(december.next(), Month { year: 2027, month: 1 });
        assert_eq!(december.next().next(), Month { year: 2027, month: 2 });
    }
}
