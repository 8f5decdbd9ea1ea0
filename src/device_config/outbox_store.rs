//! SQL of sending. Every statement locks devices before the rows that refer to them, and rows in the order of
//! devices, so that it never deadlocks with another server or with the deletion of a device.

use chrono::{DateTime, Utc};
use diesel::sql_types::{Array, BigInt, Bool, Integer, Nullable, Text, Timestamptz, Untyped};
use diesel::{ExpressionMethods, QueryDsl, QueryResult, QueryableByName};
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl};
use serde_json::Value;

use super::DeviceConfig;
use crate::db::schema::{device_configs, retained_clearings};
use crate::db::statement;
use crate::downlink::OutboxMessage;
use crate::ids::{DeviceId, HomeId};

statement! {
    struct FindDue<'a>("sql/find_due.sql") -> (BigInt, Nullable<BigInt>) {
        after: BigInt = HomeId,
        busy: Array<BigInt> = &'a [DeviceId],
        unreadable_devices: Array<BigInt> = Vec<DeviceId>,
        unreadable_versions: Array<Integer> = Vec<i32>,
        limit: BigInt = i64,
    }
}

/// Up to `limit` devices to which a message must be sent, without the busy ones and without versions whose secrets
/// this server can't open. Homes with new versions take turns, the first is the next one after `after`; a device of
/// theirs comes with its home.
pub(super) async fn find_due(
    conn: &mut AsyncPgConnection,
    after: HomeId,
    busy: &[DeviceId],
    unreadable: impl Iterator<Item = (DeviceId, i32)>,
    limit: i64,
) -> QueryResult<Vec<(DeviceId, Option<HomeId>)>> {
    let (unreadable_devices, unreadable_versions) = unreadable.unzip();
    FindDue { after, busy, unreadable_devices, unreadable_versions, limit }.load(conn).await
}

/// The version that a device should have, which the broker may not have, and the topic to which the device listens.
#[derive(QueryableByName)]
#[diesel(table_name = device_configs)]
pub(super) struct UnsentVersion {
    #[diesel(column_name = device_id)]
    pub(super) device: DeviceId,
    pub(super) version: i32,
    pub(super) config: Value,
    pub(super) secrets: Option<Vec<u8>>,
    pub(super) created_at: DateTime<Utc>,
    #[diesel(sql_type = Text)]
    pub(super) home_segment: String,
    #[diesel(sql_type = Text)]
    pub(super) device_segment: String,
}

statement! {
    struct FindVersionsToSend<'a>("sql/find_versions_to_send.sql") -> Untyped {
        devices: Array<BigInt> = &'a [DeviceId],
    }
}

statement! {
    #[derive(Default)]
    struct NoteRetained<'a>("sql/note_retained.sql") -> Untyped {
        devices: Array<BigInt> = Vec<DeviceId>,
        versions: Array<Integer> = Vec<i32>,
        home_segments: Array<Text> = Vec<&'a str>,
        device_segments: Array<Text> = Vec<&'a str>,
    }
}

/// Claims the newest version of each device, if it must be sent, and notes in the same transaction where the broker
/// may keep it. After a crash, or a deletion of the device, the broker's copy is known. `make_message` returns `None`
/// for a version that this server can't send.
pub(super) async fn claim_versions<K: Send>(
    conn: &mut AsyncPgConnection,
    devices: &[DeviceId],
    mut make_message: impl FnMut(UnsentVersion) -> Option<OutboxMessage<K>> + Send,
) -> QueryResult<Vec<OutboxMessage<K>>> {
    conn.transaction(async |conn| {
        let (mut versions, mut outgoing) = (Vec::new(), Vec::new());
        for unsent in (FindVersionsToSend { devices }).load::<UnsentVersion>(conn).await? {
            let version = unsent.version;
            if let Some(message) = make_message(unsent) {
                versions.push(version);
                outgoing.push(message);
            }
        }
        if !outgoing.is_empty() {
            let note = NoteRetained {
                devices: outgoing.iter().map(|outgoing| outgoing.device).collect(),
                versions,
                home_segments: outgoing.iter().map(|outgoing| outgoing.message.home.as_str()).collect(),
                device_segments: outgoing.iter().map(|outgoing| outgoing.message.device.as_str()).collect(),
            };
            note.execute(conn).await?;
        }
        Ok(outgoing)
    })
    .await
}

/// A topic whose retained message must be cleared.
#[derive(QueryableByName)]
#[diesel(table_name = retained_clearings)]
pub(super) struct Clearing {
    pub(super) id: i64,
    #[diesel(column_name = device_id)]
    pub(super) device: DeviceId,
    pub(super) home_segment: String,
    pub(super) device_segment: String,
}

statement! {
    struct ClaimClearings<'a>("sql/claim_clearings.sql") -> Untyped {
        devices: Array<BigInt> = &'a [DeviceId],
    }
}

/// One topic of each device that must be cleared. Deletes clearings of topics that another device uses by now.
pub(super) async fn claim_clearings(conn: &mut AsyncPgConnection, devices: &[DeviceId]) -> QueryResult<Vec<Clearing>> {
    if devices.is_empty() {
        return Ok(Vec::new());
    }
    ClaimClearings { devices }.load(conn).await
}

/// Versions that the broker confirmed, one column a field.
#[derive(Default)]
pub(super) struct ConfirmedVersions {
    devices: Vec<DeviceId>,
    versions: Vec<i32>,
    are_retained: Vec<bool>,
}

impl ConfirmedVersions {
    /// `is_retained` is false if the broker lost its session after it confirmed.
    pub(super) fn push(&mut self, device: DeviceId, version: i32, is_retained: bool) {
        self.devices.push(device);
        self.versions.push(version);
        self.are_retained.push(is_retained);
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (DeviceId, i32)> {
        self.devices.iter().copied().zip(self.versions.iter().copied())
    }
}

statement! {
    struct LockDevices<'a>("sql/lock_devices.sql") -> BigInt {
        devices: Array<BigInt> = &'a [DeviceId],
    }
}

statement! {
    struct ConfirmRetained<'a>("sql/confirm_retained.sql") -> Untyped {
        devices: Array<BigInt> = &'a [DeviceId],
        versions: Array<Integer> = &'a [i32],
        are_retained: Array<Bool> = &'a [bool],
    }
}

statement! {
    struct MarkSent<'a>("sql/mark_sent.sql") -> Untyped {
        devices: Array<BigInt> = &'a [DeviceId],
        versions: Array<Integer> = &'a [i32],
        now: Timestamptz = DateTime<Utc>,
    }
}

/// Records the broker's confirmations of versions and clearings. Returns the versions that became SENT.
pub(super) async fn record_confirmed(
    conn: &mut AsyncPgConnection,
    now: DateTime<Utc>,
    confirmed: &ConfirmedVersions,
    clearings: &[i64],
) -> QueryResult<Vec<DeviceConfig>> {
    let ConfirmedVersions { devices, versions, are_retained } = confirmed;
    conn.transaction(async |conn| {
        let mut sent = Vec::new();
        if !devices.is_empty() {
            LockDevices { devices }.load::<DeviceId>(conn).await?;
            ConfirmRetained { devices, versions, are_retained }.execute(conn).await?;
            sent = MarkSent { devices, versions, now }.load(conn).await?;
        }
        if !clearings.is_empty() {
            diesel::update(retained_clearings::table.filter(retained_clearings::id.eq_any(clearings)))
                .set(retained_clearings::confirmed_at.eq(now))
                .execute(conn)
                .await?;
        }
        Ok(sent)
    })
    .await
}
