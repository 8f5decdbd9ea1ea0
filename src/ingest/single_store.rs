//! SQL of a batch of one reading. It is one statement, because the five of a larger batch would take PostgreSQL twice as long.

use chrono::{DateTime, Utc};
use diesel::QueryResult;
use diesel::result::Error as DieselError;
use diesel::sql_types::{BigInt, Bool, Double, Integer, Jsonb, Nullable, Text, Timestamptz};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use serde_json::Value;

use crate::db::statement;
use crate::ids::{DeviceId, HomeId, TelemetryId};
use crate::mqtt::Packet;
use crate::telemetry::{NewReading, SensorColumn, TimeSource, for_each_sensor};

macro_rules! define_statement {
    ($($(#[$doc:meta])* $field:ident: $type:ty = $name:literal,)*) => {
        statement! {
            struct InsertOne<'a>("sql/insert_one.sql") -> (Bool, Nullable<BigInt>, Nullable<BigInt>) {
                home_id: BigInt = HomeId,
                device_id: BigInt = DeviceId,
                recorded_at: Timestamptz = DateTime<Utc>,
                received_at: Timestamptz = DateTime<Utc>,
                dedup: BigInt = i64,
                device_clock: Bool = bool,
                $($field: Nullable<<$type as SensorColumn>::Sql> = Option<$type>,)*
                firmware_version: Nullable<Text> = Option<&'a str>,
                signal_strength: Nullable<Double> = Option<f64>,
                battery_level: Nullable<Double> = Option<f64>,
                extra: Nullable<Jsonb> = Option<&'a Value>,
                metadata: Nullable<Jsonb> = Option<&'a Value>,
                client_id: Text = &'a str,
                packet_id: Nullable<Integer> = Option<i32>,
                digest: Nullable<BigInt> = Option<i64>,
            }
        }

        impl<'a> InsertOne<'a> {
            fn of(reading: &'a NewReading, client_id: &'a str, packet: Option<Packet>) -> Self {
                let NewReading { home, device, recorded_at, received_at, time_source, dedup, measurement } = reading;
                let report = &measurement.report;
                Self {
                    home_id: *home,
                    device_id: *device,
                    recorded_at: *recorded_at,
                    received_at: *received_at,
                    dedup: *dedup,
                    device_clock: *time_source == TimeSource::Device,
                    $($field: measurement.sensors.$field,)*
                    firmware_version: report.firmware_version.as_deref(),
                    signal_strength: report.signal_strength,
                    battery_level: report.battery_level,
                    extra: measurement.extra.as_ref(),
                    metadata: measurement.metadata.as_ref(),
                    client_id,
                    packet_id: packet.map(|packet| packet.id.into()),
                    digest: packet.map(|packet| packet.message_digest),
                }
            }
        }
    };
}
for_each_sensor!(define_statement);

/// What was committed.
pub(super) struct InsertedOne {
    /// `None` if the reading is stored already.
    pub(super) reading: Option<TelemetryId>,
    /// The row of the packet; `None` with QoS 0.
    pub(super) packets_row: Option<i64>,
}

/// Commits one reading and its packet. `None` if nothing was written: the device is deleted, or another transaction has locked
/// its row.
pub(super) async fn insert_one(
    conn: &mut AsyncPgConnection,
    reading: &NewReading,
    client_id: &str,
    packet: Option<Packet>,
) -> QueryResult<Option<InsertedOne>> {
    // `load`, because PostgreSQL commits after it has sent the row, and `get_result` returns with the row.
    let rows = InsertOne::of(reading, client_id, packet).load(conn).await?;
    let (is_found, reading, packets_row): (bool, _, _) = rows.into_iter().next().ok_or(DieselError::NotFound)?;
    Ok(is_found.then_some(InsertedOne { reading, packets_row }))
}
