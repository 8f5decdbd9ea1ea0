//! SQL that reads a device and a page of its past in one statement.

use chrono::{DateTime, Utc};
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::result::Error as DieselError;
use diesel::sql_types::{BigInt, Bool, Double, Jsonb, Nullable, Record, Text, Timestamptz};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use futures_util::TryStreamExt;

use super::SharedReading;
use super::history_page::HistoryPage;
use super::history_store::{self, Bounds};
use super::read_store::{Health, Message, MessageSql, SensorsRow, SensorsSql, reading_of};
use crate::db::{MemoryBudget, MemorySize, statement};
use crate::devices::{Device, Registration, RegistrationColumns, read_registration};
use crate::error::Error;
use crate::homes::{Membership, MembershipColumns};
use crate::ids::{DeviceId, UserId};

/// Null in the rows of the readings.
type DeviceSql = Nullable<Record<(Record<RegistrationColumns>, Record<MembershipColumns>)>>;
type DeviceRow =
    (<Registration as Queryable<RegistrationColumns, Pg>>::Row, <Membership as Queryable<MembershipColumns, Pg>>::Row);
/// Null too where it is not wanted.
type HealthSql = Nullable<Record<(Nullable<Text>, Nullable<Double>, Nullable<Double>, Nullable<Jsonb>)>>;

type SqlRow = (DeviceSql, MessageSql, SensorsSql, HealthSql);
type Row = (Option<DeviceRow>, Message, SensorsRow, Option<Health>);

statement! {
    struct DeviceHistory("sql/device_history.sql") -> SqlRow {
        viewer: BigInt = UserId,
        device: BigInt = DeviceId,
        from_at: Timestamptz = DateTime<Utc>,
        to_at: Timestamptz = DateTime<Utc>,
        after_at: Timestamptz = DateTime<Utc>,
        after_id: BigInt = i64,
        limit: BigInt = i64,
        max_rows: BigInt = i64,
        health: Bool = bool,
    }
}

/// The device, without its state, and a page of its readings; `None` if `viewer` does not see the device.
pub(super) async fn device_with_history(
    conn: &mut AsyncPgConnection,
    viewer: UserId,
    device: DeviceId,
    page: &HistoryPage,
    budget: &MemoryBudget,
) -> Result<Option<(Device, Vec<SharedReading>)>, Error> {
    let Bounds { from_at, to_at, after_at, after_id, limit, max_rows } = Bounds::of(page);
    let health = page.health;
    let query = DeviceHistory { viewer, device, from_at, to_at, after_at, after_id, limit, max_rows, health };
    let mut rows = Box::pin(query.load_stream::<Row>(conn).await?);
    // Without the device there are no readings.
    let Some((Some(found), ..)) = rows.try_next().await? else { return Ok(None) };
    let (device, mut readings) = (read_device(found)?, Vec::new());
    while let Some((_, message, sensors, health)) = rows.try_next().await? {
        let reading = reading_of(&device, message, sensors, health.unwrap_or_default()).ok_or(DieselError::NotFound)?;
        budget.charge(reading.text_bytes())?;
        readings.push(SharedReading::new(reading));
    }
    drop(rows);
    let readings = history_store::complete(conn, readings, page, budget).await?;
    Ok(Some((device, readings)))
}

fn read_device((registration, membership): DeviceRow) -> Result<Device, Error> {
    let registration = <Registration as Queryable<RegistrationColumns, Pg>>::build(registration);
    let membership = <Membership as Queryable<MembershipColumns, Pg>>::build(membership);
    let unreadable = |error| Error::from(DieselError::DeserializationError(error));
    Ok(read_registration(registration.map_err(unreadable)?, membership.map_err(unreadable)?))
}
