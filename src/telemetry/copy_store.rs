//! Readings in the binary format of COPY, for large batches.

use super::sensors::for_each_sensor;
use super::{NewReading, TimeSource};
use crate::db::Rows;

/// The newest id that the table has given out, 0 if none.
pub const LAST_ID: &str = include_str!("sql/last_cursor.sql");

/// Bytes of an ordinary row; more are allocated where a row needs them.
const ROW_BYTES: usize = 400;

macro_rules! define_columns {
    ($($(#[$doc:meta])* $field:ident: $type:ty = $name:literal,)*) => {
        /// The columns in the order of [`rows`]. PostgreSQL takes the ids from their sequence, in the order of the rows.
        pub const COPY: &str = concat!(
            "copy telemetry (home_id, device_id, recorded_at, received_at, dedup, device_clock, ",
            $(stringify!($field), ", ",)*
            "firmware_version, signal_strength, battery_level, extra, metadata) from stdin (format binary)",
        );

        const N_SENSORS: i16 = [$($name),*].len() as i16;

        fn push_sensors(rows: &mut Rows, reading: &NewReading) {
            $(rows.push(reading.measurement.sensors.$field);)*
        }
    };
}
for_each_sensor!(define_columns);

const N_FIELDS: i16 = 6 + N_SENSORS + 5;

pub fn rows(readings: &[&NewReading]) -> Rows {
    let mut rows = Rows::with_capacity(readings.len() * ROW_BYTES);
    for reading in readings {
        let (measurement, report) = (&reading.measurement, &reading.measurement.report);
        rows.begin_row(N_FIELDS);
        rows.push(reading.home.get());
        rows.push(reading.device.get());
        rows.push(reading.recorded_at);
        rows.push(reading.received_at);
        rows.push(reading.dedup);
        rows.push(reading.time_source == TimeSource::Device);
        push_sensors(&mut rows, reading);
        rows.push(report.firmware_version.as_deref());
        rows.push(report.signal_strength);
        rows.push(report.battery_level);
        rows.push(measurement.extra.as_ref());
        rows.push(measurement.metadata.as_ref());
    }
    rows
}
