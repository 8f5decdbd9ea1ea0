//! SQL that reads readings: the latest, pages of the past, and pages in the order of commits.

use std::pin::pin;

use chrono::{DateTime, Utc};
use diesel::QueryResult;
use diesel::sql_types::{Array, BigInt, Bool, Double, Jsonb, Nullable, Text, Timestamptz};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use futures_util::{StreamExt, TryStreamExt};

use super::sensors::{Sensors, for_each_sensor};
use super::{Reading, TimeSource};
use crate::db::{JsonText, MemoryBudget, MemorySize, collect_bounded, statement};
use crate::devices::Device;
use crate::error::Error;
use crate::ids::{DeviceId, HomeId, TelemetryId};

/// The SQL type of a sensor's column.
pub(crate) trait SensorColumn {
    type Sql;
}

impl SensorColumn for f64 {
    type Sql = Double;
}

impl SensorColumn for bool {
    type Sql = Bool;
}

macro_rules! sensor_columns {
    ($($(#[$doc:meta])* $field:ident: $type:ty = $name:literal,)*) => {
        pub(super) type SensorsSql = ($(Nullable<<$type as SensorColumn>::Sql>,)*);
        pub(super) type SensorsRow = ($(Option<$type>,)*);

        fn sensors(($($field,)*): SensorsRow) -> Sensors {
            Sensors { $($field,)* }
        }
    };
}
for_each_sensor!(sensor_columns);

/// The columns that every statement of this file selects, in this order.
pub(super) type SqlRow = ((BigInt, BigInt, BigInt, Timestamptz, Timestamptz, Bool), SensorsSql, HealthSql);
pub(super) type HealthSql = (Nullable<Text>, Nullable<Double>, Nullable<Double>, Nullable<Jsonb>);
pub(super) type Row = ((TelemetryId, HomeId, DeviceId, DateTime<Utc>, DateTime<Utc>, bool), SensorsRow, Health);
/// Firmware, signal, battery, and values of other sensors.
pub(super) type Health = (Option<String>, Option<f64>, Option<f64>, Option<JsonText>);

/// What [`SqlRow`] begins with, without the ids of home and device; null where there is no reading.
pub(super) type MessageSql = (Nullable<BigInt>, Nullable<Timestamptz>, Nullable<Timestamptz>, Nullable<Bool>);
pub(super) type Message = (Option<TelemetryId>, Option<DateTime<Utc>>, Option<DateTime<Utc>>, Option<bool>);

/// A reading that was read beside its device, if there is one.
pub(super) fn reading_of(device: &Device, message: Message, sensors: SensorsRow, health: Health) -> Option<Reading> {
    let (id, recorded_at, received_at, device_clock) = message;
    let message = (id?, device.home, device.id, recorded_at?, received_at?, device_clock?);
    Some(reading((message, sensors, health)))
}

pub(super) fn reading((message, sensor_values, health): Row) -> Reading {
    let (id, home, device, recorded_at, received_at, device_clock) = message;
    let (firmware_version, signal_strength, battery_level, extra) = health;
    Reading {
        id,
        home,
        device,
        recorded_at,
        received_at,
        time_source: if device_clock { TimeSource::Device } else { TimeSource::Server },
        sensors: sensors(sensor_values),
        extra,
        firmware_version,
        signal_strength,
        battery_level,
    }
}

statement! {
    struct Latest<'a>("sql/latest.sql") -> SqlRow {
        devices: Array<BigInt> = &'a [DeviceId],
    }
}

statement! {
    struct FindScanEnd("sql/find_scan_end.sql") -> BigInt {
        home: BigInt = HomeId,
        after: BigInt = TelemetryId,
    }
}

statement! {
    struct ReadAfter("sql/read_after.sql") -> SqlRow {
        home: BigInt = HomeId,
        after: BigInt = TelemetryId,
        limit: BigInt = i64,
    }
}

statement! {
    struct ReadAfterOfDevice("sql/read_after_of_device.sql") -> SqlRow {
        home: BigInt = HomeId,
        device: BigInt = DeviceId,
        after: BigInt = TelemetryId,
        up_to: BigInt = i64,
        limit: BigInt = i64,
    }
}

pub(super) async fn latest(
    conn: &mut AsyncPgConnection,
    devices: &[DeviceId],
    budget: &MemoryBudget,
) -> Result<Vec<Reading>, Error> {
    collect_bounded(Latest { devices }.load_stream::<Row>(conn).await?, budget, |row| Ok(reading(row))).await
}

/// Readings of a home, or of one of its devices, after a cursor.
#[derive(Clone, Copy)]
pub(super) struct ReadingsAfter {
    pub(super) home: HomeId,
    pub(super) device: Option<DeviceId>,
    pub(super) after: TelemetryId,
    pub(super) limit: i64,
    /// Bytes after which a page ends.
    pub(super) max_bytes: usize,
}

pub(super) struct StoredPage {
    /// In the order of commits.
    pub(super) readings: Vec<Reading>,
    /// The cursor up to which the page was read, where there may be more behind it.
    pub(super) up_to: Option<TelemetryId>,
}

/// Reads at most `limit` readings, fewer where they are long. For one device the page also ends where the home's
/// next 20,000 readings end: a silent device in a busy home would otherwise have all of them read for it.
pub(super) async fn read_after(conn: &mut AsyncPgConnection, wanted: ReadingsAfter) -> QueryResult<StoredPage> {
    let ReadingsAfter { home, device, after, limit, max_bytes } = wanted;
    // Without a device every reading that is scanned is one of the page.
    let mut scan_end: Option<TelemetryId> = None;
    let rows = if let Some(device) = device {
        scan_end = FindScanEnd { home, after }.load(conn).await?.pop();
        // Ids are in the order of commits: no smaller one is committed later.
        let up_to = scan_end.map_or(i64::MAX, TelemetryId::get);
        ReadAfterOfDevice { home, device, after, up_to, limit }.load_stream::<Row>(conn).await?.boxed()
    } else {
        ReadAfter { home, after, limit }.load_stream::<Row>(conn).await?.boxed()
    };
    let mut rows = pin!(rows);
    let (mut readings, mut bytes) = (Vec::new(), 0);
    while bytes < max_bytes
        && let Some(row) = rows.try_next().await?
    {
        let reading = reading(row);
        bytes += reading.text_bytes();
        readings.push(reading);
    }
    let is_full = bytes >= max_bytes || i64::try_from(readings.len()).is_ok_and(|n| n >= limit);
    let up_to = if is_full { readings.last().map(|reading| reading.id) } else { scan_end };
    Ok(StoredPage { readings, up_to })
}

#[cfg(test)]
mod tests {
    macro_rules! columns {
        ($($(#[$doc:meta])* $field:ident: $type:ty = $name:literal,)*) => {
            &[$(stringify!($field)),*]
        };
    }
    const SENSORS: &[&str] = super::for_each_sensor!(columns);

    /// The sensors are bound and read by position: the statements name them in the order of the table.
    #[test]
    fn the_statements_name_every_sensor_in_the_order_of_the_table() {
        let list = |prefix: &str| SENSORS.iter().map(|name| format!("{prefix}{name}")).collect::<Vec<_>>().join(",");
        let squeezed = |sql: &str| sql.split_whitespace().collect::<String>();
        for sql in [
            include_str!("sql/latest.sql"),
            include_str!("sql/page_latest.sql"),
            include_str!("sql/page_latest_without_states.sql"),
            include_str!("sql/page_latest_names.sql"),
            include_str!("sql/device_history.sql"),
            include_str!("sql/history.sql"),
            include_str!("sql/history_of_ties.sql"),
            include_str!("sql/read_after.sql"),
            include_str!("sql/read_after_of_device.sql"),
            include_str!("sql/move_parked.sql"),
        ] {
            assert!(squeezed(sql).contains(&format!("t.device_clock,{}", list("t."))), "{sql}");
        }
        let names = format!("device_clock,{},firmware_version", list(""));
        let values = format!("n.device_clock,{},n.firmware_version", list("n."));
        for sql in [include_str!("sql/insert.sql"), include_str!("sql/insert_parked.sql")] {
            let parameters = crate::db::parameters(sql);
            let parameters: Vec<_> = parameters.into_iter().map(|(_, name)| name).collect();
            assert_eq!(parameters[6..6 + SENSORS.len()], *SENSORS);
            let sql = squeezed(sql);
            assert!(sql.matches(&names).count() == 2 && sql.contains(&values), "{sql}");
        }
        let one = include_str!("../ingest/sql/insert_one.sql");
        let parameters: Vec<_> = crate::db::parameters(one).into_iter().map(|(_, name)| name).collect();
        assert_eq!(parameters[6..6 + SENSORS.len()], *SENSORS);
        assert!(squeezed(one).contains(&names), "{one}");
        let moves = squeezed(include_str!("sql/move_parked.sql"));
        assert!(moves.contains(&names) && moves.contains(&values), "{moves}");
    }
}
