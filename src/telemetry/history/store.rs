//! SQL of reading telemetry: one descent into the primary key per device, whatever the partitions.

use chrono::{DateTime, Utc};
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::sql_types::{Array, BigInt, Bool, Double, Jsonb, Nullable, Text, Timestamptz};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use super::HistoryPage;
use crate::db::{JsonText, MemoryBudget, collect_bounded};
use crate::error::Error;
use crate::ids::{DeviceId, HomeId, TelemetryId};
use crate::telemetry::{Reading, Sensors, TimeSource};

type Optional<T> = Nullable<T>;
pub(in crate::telemetry) type SqlRow = (
    (BigInt, BigInt, BigInt, Timestamptz, Timestamptz, Bool),
    (
        Optional<Double>,
        Optional<Double>,
        Optional<Bool>,
        Optional<Double>,
        Optional<Double>,
        Optional<Double>,
        Optional<Double>,
    ),
    (Optional<Double>, Optional<Double>, Optional<Double>, Optional<Double>, Optional<Double>, Optional<Double>),
    (Optional<Text>, Optional<Double>, Optional<Double>, Optional<Jsonb>),
);
type Number = Option<f64>;
pub(in crate::telemetry) type Row = (
    (TelemetryId, HomeId, DeviceId, DateTime<Utc>, DateTime<Utc>, bool),
    (Number, Number, Option<bool>, Number, Number, Number, Number),
    (Number, Number, Number, Number, Number, Number),
    (Option<String>, Number, Number, Option<JsonText>),
);

/// In the order of [`SqlRow`], of a table that goes by `t`.
pub(in crate::telemetry) const COLUMNS: &str = "t.id, t.home_id, t.device_id, t.recorded_at, t.received_at, t.device_clock, t.current, t.gas_ppm, \
     t.flame, t.bin_level, t.power_w, t.energy_kwh, t.voltage_v, t.current_a, t.frequency_hz, t.power_factor, \
     t.distance_cm, t.temperature, t.humidity, t.firmware_version, t.signal_strength, t.battery_level, t.extra";

/// The row as a reading.
pub(in crate::telemetry) fn reading((what, first, second, meta): Row) -> Reading {
    let (id, home, device, recorded_at, received_at, device_clock) = what;
    let (current, gas_ppm, flame, bin_level, power_w, energy_kwh, voltage_v) = first;
    let (current_a, frequency_hz, power_factor, distance_cm, temperature, humidity) = second;
    let (firmware_version, signal_strength, battery_level, extra) = meta;
    Reading {
        id,
        home,
        device,
        recorded_at,
        received_at,
        time_source: if device_clock { TimeSource::Device } else { TimeSource::Server },
        sensors: Sensors {
            current,
            gas_ppm,
            flame,
            bin_level,
            power_w,
            energy_kwh,
            voltage_v,
            current_a,
            frequency_hz,
            power_factor,
            distance_cm,
            temperature,
            humidity,
        },
        extra,
        firmware_version,
        signal_strength,
        battery_level,
    }
}

/// Before every reading: bounds are always given, so that the plan can use them.
pub(super) fn first_instant() -> DateTime<Utc> {
    DateTime::UNIX_EPOCH
}

/// After every reading.
pub(super) fn last_instant() -> DateTime<Utc> {
    const YEAR_9999: i64 = 253_402_300_799;
    DateTime::from_timestamp(YEAR_9999, 0).expect("in range")
}

struct Latest<'a> {
    devices: &'a [DeviceId],
}

impl QueryFragment<Pg> for Latest<'_> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql("select ");
        out.push_sql(COLUMNS);
        out.push_sql(" from unnest(");
        out.push_bind_param::<Array<BigInt>, _>(&self.devices)?;
        out.push_sql(") wanted (id) cross join lateral (select * from telemetry where device_id = wanted.id order by recorded_at desc, id desc limit 1) t");
        Ok(())
    }
}

impl QueryId for Latest<'_> {
    type QueryId = Latest<'static>;
    const HAS_STATIC_QUERY_ID: bool = true;
}

impl Query for Latest<'_> {
    type SqlType = SqlRow;
}

struct History<'a> {
    devices: &'a [DeviceId],
    from: DateTime<Utc>,
    to: DateTime<Utc>,
    after_at: DateTime<Utc>,
    after_id: i64,
    limit: i64,
}

impl QueryFragment<Pg> for History<'_> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql("select ");
        out.push_sql(COLUMNS);
        out.push_sql(" from unnest(");
        out.push_bind_param::<Array<BigInt>, _>(&self.devices)?;
        out.push_sql(") with ordinality wanted (id, place) cross join lateral (select * from telemetry where device_id = wanted.id and recorded_at >= ");
        out.push_bind_param::<Timestamptz, _>(&self.from)?;
        out.push_sql(" and recorded_at < ");
        out.push_bind_param::<Timestamptz, _>(&self.to)?;
        out.push_sql(" and (recorded_at, id) < (");
        out.push_bind_param::<Timestamptz, _>(&self.after_at)?;
        out.push_sql(", ");
        out.push_bind_param::<BigInt, _>(&self.after_id)?;
        out.push_sql(") order by recorded_at desc, id desc limit ");
        out.push_bind_param::<BigInt, _>(&self.limit)?;
        out.push_sql(") t order by wanted.place, t.recorded_at desc, t.id desc");
        Ok(())
    }
}

impl QueryId for History<'_> {
    type QueryId = History<'static>;
    const HAS_STATIC_QUERY_ID: bool = true;
}

impl Query for History<'_> {
    type SqlType = SqlRow;
}

pub(super) async fn latest(
    conn: &mut AsyncPgConnection,
    devices: &[DeviceId],
    budget: &MemoryBudget,
) -> Result<Vec<Reading>, Error> {
    collect_bounded(Latest { devices }.load_stream::<Row>(conn).await?, budget, |row| Ok(reading(row))).await
}

pub(super) async fn history(
    conn: &mut AsyncPgConnection,
    devices: &[DeviceId],
    page: &HistoryPage,
    budget: &MemoryBudget,
) -> Result<Vec<Reading>, Error> {
    let bounds = first_instant()..=last_instant();
    let clamp = |at: DateTime<Utc>| at.clamp(*bounds.start(), *bounds.end());
    let query = History {
        devices,
        from: page.from.map_or(*bounds.start(), clamp),
        to: page.to.map_or(*bounds.end(), clamp),
        after_at: page.after.map_or(*bounds.end(), |after| after.recorded_at),
        after_id: page.after.map_or(i64::MAX, |after| after.id.get()),
        limit: page.limit,
    };
    collect_bounded(query.load_stream::<Row>(conn).await?, budget, |row| Ok(reading(row))).await
}
