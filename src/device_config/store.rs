//! SQL of versions: adding one, reading them.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Binary, Integer, Json, Nullable, Timestamptz, Untyped};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use serde_json::Value;

use super::ConfigStatus;
use super::content::Content;
use crate::db::schema::device_configs;
use crate::db::{JsonText, MemoryBudget, MemorySize, collect_bounded, statement};
use crate::error::Error;
use crate::homes::Access;
use crate::ids::{DeviceId, HomeId, UserId};

/// One version of a device's configuration. Holds no secret.
#[derive(Debug, Clone, PartialEq, QueryableByName)]
#[diesel(table_name = device_configs)]
pub struct DeviceConfig {
    #[diesel(column_name = device_id)]
    pub device: DeviceId,
    #[diesel(column_name = home_id)]
    pub home: HomeId,
    /// From 1, one more with every push.
    pub version: i32,
    /// The public part, with a placeholder for each secret.
    pub config: JsonText,
    pub status: ConfigStatus,
    /// The device's reasons to reject the version, by key.
    pub errors: Option<JsonText>,
    /// The account may be deleted since.
    pub created_by: Option<UserId>,
    pub created_at: DateTime<Utc>,
    /// When the broker confirmed the message, or the first answer came before that.
    pub sent_at: Option<DateTime<Utc>>,
    pub applied_at: Option<DateTime<Utc>>,
    /// Last change, by the database's clock.
    pub updated_at: DateTime<Utc>,
}

impl MemorySize for DeviceConfig {
    fn text_bytes(&self) -> usize {
        self.config.text_bytes() + self.errors.as_ref().map_or(0, JsonText::text_bytes)
    }
}

/// The content of a version, or of the newest one.
pub(super) async fn content(
    conn: &mut AsyncPgConnection,
    device: DeviceId,
    version: Option<i32>,
) -> QueryResult<Option<(i32, Content)>> {
    let row: Option<(i32, Value, Option<Vec<u8>>)> = device_configs::table
        .filter(device_configs::device_id.eq(device))
        .filter(device_configs::version.between(version.unwrap_or(1), version.unwrap_or(i32::MAX)))
        .order(device_configs::version.desc())
        .select((device_configs::version, device_configs::config, device_configs::secrets))
        .first(conn)
        .await
        .optional()?;
    Ok(row.map(|(version, public, secrets)| (version, Content { public, secrets })))
}

statement! {
    struct Supersede("sql/supersede.sql") -> Untyped {
        device: BigInt = DeviceId,
    }
}

/// Supersedes the unanswered versions of a device and returns them, oldest first.
pub(super) async fn supersede(conn: &mut AsyncPgConnection, device: DeviceId) -> QueryResult<Vec<DeviceConfig>> {
    let mut superseded: Vec<DeviceConfig> = Supersede { device }.load(conn).await?;
    superseded.sort_unstable_by_key(|config| config.version);
    Ok(superseded)
}

statement! {
    struct Insert<'a>("sql/insert.sql") -> Untyped {
        home: BigInt = HomeId,
        user: BigInt = UserId,
        device: BigInt = DeviceId,
        version: Integer = i32,
        config: Json = &'a Value,
        secrets: Nullable<Binary> = Option<&'a [u8]>,
        now: Timestamptz = DateTime<Utc>,
    }
}

/// Adds a version. The device's row is locked ([`crate::devices::lock_device`]).
pub(super) async fn insert(
    conn: &mut AsyncPgConnection,
    access: Access,
    (device, version): (DeviceId, i32),
    content: &Content,
    now: DateTime<Utc>,
) -> QueryResult<DeviceConfig> {
    let (config, secrets) = (&content.public, content.secrets.as_deref());
    let insert = Insert { home: access.home(), user: access.user(), device, version, config, secrets, now };
    insert.get_result(conn).await
}

/// Deletes the versions of a device up to this one.
pub(super) async fn prune(conn: &mut AsyncPgConnection, device: DeviceId, up_to: i32) -> QueryResult<()> {
    let old = device_configs::table.filter(device_configs::device_id.eq(device));
    diesel::delete(old.filter(device_configs::version.le(up_to))).execute(conn).await.map(drop)
}

statement! {
    struct History<'a>("sql/history.sql") -> Untyped {
        devices: Array<BigInt> = &'a [DeviceId],
        before: Integer = i32,
        limit: BigInt = i64,
    }
}

/// Up to `limit` versions of each device, newest first.
pub(super) async fn history(
    conn: &mut AsyncPgConnection,
    devices: &[DeviceId],
    before: Option<i32>,
    limit: i64,
    budget: &MemoryBudget,
) -> Result<Vec<DeviceConfig>, Error> {
    let history = History { devices, before: before.unwrap_or(i32::MAX), limit };
    collect_bounded(history.load_stream::<DeviceConfig>(conn).await?, budget, Ok).await
}

/// A position in the order of changes: by time, then by device and version.
#[derive(Debug, Clone, Copy)]
pub(super) struct ChangeCursor {
    at: DateTime<Utc>,
    device: i64,
    version: i32,
}

impl ChangeCursor {
    /// Before every change at this time or later.
    pub(super) fn before(at: DateTime<Utc>) -> Self {
        Self { at, device: 0, version: 0 }
    }

    pub(super) fn of(config: &DeviceConfig) -> Self {
        Self { at: config.updated_at, device: config.device.get(), version: config.version }
    }
}

statement! {
    struct ChangedAfter("sql/changed_after.sql") -> Untyped {
        home: BigInt = HomeId,
        device: Nullable<BigInt> = Option<DeviceId>,
        after_time: Timestamptz = DateTime<Utc>,
        after_device: BigInt = i64,
        after_version: Integer = i32,
        limit: BigInt = i64,
    }
}

/// The versions of a home, or of one of its devices, that changed after a cursor, in the order of cursors.
pub(super) async fn changed(
    conn: &mut AsyncPgConnection,
    home: HomeId,
    device: Option<DeviceId>,
    after: ChangeCursor,
    limit: i64,
) -> QueryResult<Vec<DeviceConfig>> {
    let ChangeCursor { at: after_time, device: after_device, version: after_version } = after;
    ChangedAfter { home, device, after_time, after_device, after_version, limit }.load(conn).await
}
