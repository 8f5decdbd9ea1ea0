//! SQL that makes sent commands pending again. The rows alone decide which: every server finds the same ones.

use chrono::{DateTime, Utc};
use diesel::QueryResult;
use diesel::sql_types::{Array, BigInt, SmallInt, Timestamptz, Untyped, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use super::command::Command;
use super::returned_devices::MAX_RESENDS;
use super::row_store::into_commands;
use super::send::MAX_OPEN_PER_DEVICE;
use crate::db::statement;
use crate::ids::{CommandId, DeviceId};

statement! {
    struct FindLost("sql/find_lost.sql") -> SqlUuid {
        now: Timestamptz = DateTime<Utc>,
        before: Timestamptz = DateTime<Utc>,
        limit: BigInt = i64,
    }
}

statement! {
    struct FindOldestLost<'a>("sql/find_oldest_lost.sql") -> SqlUuid {
        devices: Array<BigInt> = &'a [DeviceId],
        now: Timestamptz = DateTime<Utc>,
        before: Timestamptz = DateTime<Utc>,
    }
}

statement! {
    struct RequeueLost<'a>("sql/requeue_lost.sql") -> Untyped {
        ids: Array<SqlUuid> = &'a [CommandId],
        before: Timestamptz = DateTime<Utc>,
    }
}

statement! {
    struct RequeueMissed<'a>("sql/requeue_missed.sql") -> Untyped {
        devices: Array<BigInt> = &'a [DeviceId],
        now: Timestamptz = DateTime<Utc>,
        max_resends: SmallInt = i16,
        per_device: BigInt = i64,
    }
}

statement! {
    struct FindDevicesWithSent("sql/find_devices_with_sent.sql") -> BigInt {}
}

/// Up to `limit` unanswered commands that the broker accepted up to `before` and lost with our session.
pub(super) async fn find_lost(
    conn: &mut AsyncPgConnection,
    now: DateTime<Utc>,
    before: DateTime<Utc>,
    limit: usize,
) -> QueryResult<Vec<CommandId>> {
    FindLost { now, before, limit: i64::try_from(limit).expect("a small number") }.load(conn).await
}

/// The oldest one of each device.
pub(super) async fn find_oldest_lost(
    conn: &mut AsyncPgConnection,
    now: DateTime<Utc>,
    before: DateTime<Utc>,
    devices: &[DeviceId],
) -> QueryResult<Vec<CommandId>> {
    FindOldestLost { devices, now, before }.load(conn).await
}

/// Those of these commands that are still lost.
pub(super) async fn requeue_lost(
    conn: &mut AsyncPgConnection,
    before: DateTime<Utc>,
    ids: &[CommandId],
) -> QueryResult<Vec<Command>> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    Ok(into_commands(RequeueLost { ids, before }.load(conn).await?))
}

/// Commands that these devices may have missed before they came back.
pub(super) async fn requeue_missed(
    conn: &mut AsyncPgConnection,
    now: DateTime<Utc>,
    devices: &[DeviceId],
) -> QueryResult<Vec<Command>> {
    let (max_resends, per_device) = (MAX_RESENDS, MAX_OPEN_PER_DEVICE);
    Ok(into_commands(RequeueMissed { devices, now, max_resends, per_device }.load(conn).await?))
}

/// Devices with a sent command without an answer.
pub(super) async fn find_devices_with_sent(conn: &mut AsyncPgConnection) -> QueryResult<Vec<DeviceId>> {
    FindDevicesWithSent {}.load(conn).await
}
