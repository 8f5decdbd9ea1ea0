//! SQL of what the broker must delete for deleted devices.

use chrono::{DateTime, Utc};
use diesel::sql_types::{Array, BigInt, Bool, Integer, Text, Timestamptz, Untyped};
use diesel::{QueryResult, QueryableByName};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use crate::db::schema::broker_cleanups;
use crate::db::{locks, statement};
use crate::ids::{DeviceId, HomeId};

/// A cleanup that is due.
#[derive(QueryableByName)]
#[diesel(table_name = broker_cleanups)]
pub(super) struct DueCleanup {
    pub(super) id: i64,
    #[diesel(column_name = home_id)]
    pub(super) home: HomeId,
    #[diesel(column_name = device_id)]
    pub(super) device: DeviceId,
    pub(super) client_id: String,
    pub(super) home_key: String,
    pub(super) device_key: String,
    pub(super) home_segment: Option<String>,
    pub(super) device_segment: Option<String>,
    #[diesel(sql_type = Bool)]
    pub(super) clears_topics: bool,
}

statement! {
    struct FindCleanups("sql/find_cleanups.sql") -> Untyped {
        repeat_before: Timestamptz = DateTime<Utc>,
        has_accounts: Bool = bool,
        last_home: BigInt = HomeId,
        limit: BigInt = i64,
    }
}

statement! {
    struct FindIdleDevices("sql/find_idle_devices.sql") -> BigInt {
        devices: Array<BigInt> = Vec<DeviceId>,
        commands: Integer = i32,
        configs: Integer = i32,
    }
}

statement! {
    struct FindTopicsToCleanUp("sql/find_topics_to_clean_up.sql") -> (Text, Text) {}
}

statement! {
    struct IsBeingCleanedUp<'a>("sql/is_being_cleaned_up.sql") -> Bool {
        home: Text = &'a str,
        device: Text = &'a str,
    }
}

statement! {
    struct ConfirmCleanup("sql/confirm_cleanup.sql") -> Untyped {
        id: BigInt = i64,
        now: Timestamptz = DateTime<Utc>,
    }
}

/// Takes the lock of the server that cleans up, for the length of the connection. False where another server has it.
pub(super) async fn try_lock(conn: &mut AsyncPgConnection) -> QueryResult<bool> {
    locks::try_lock(conn, locks::BROKER_CLEANUP, None).await
}

/// Up to `limit` cleanups to do now, beginning with the home after `last_home`. `has_accounts` where the broker has
/// accounts that the server removes before.
pub(super) async fn due(
    conn: &mut AsyncPgConnection,
    repeat_before: DateTime<Utc>,
    has_accounts: bool,
    last_home: HomeId,
    limit: i64,
) -> QueryResult<Vec<DueCleanup>> {
    FindCleanups { repeat_before, has_accounts, last_home, limit }.load(conn).await
}

/// Those of these devices to which no server is publishing.
pub(super) async fn find_idle(conn: &mut AsyncPgConnection, due: &[DueCleanup]) -> QueryResult<Vec<DeviceId>> {
    let devices = due.iter().map(|due| due.device).collect();
    FindIdleDevices { devices, commands: locks::COMMAND_OUTBOX, configs: locks::CONFIG_OUTBOX }.load(conn).await
}

/// The broker has confirmed the cleanup.
pub(super) async fn confirm(conn: &mut AsyncPgConnection, id: i64, now: DateTime<Utc>) -> QueryResult<()> {
    ConfirmCleanup { id, now }.execute(conn).await.map(drop)
}

/// Home and device of the topics under which the broker may keep something of a deleted device.
pub(super) async fn topics_to_clean_up(conn: &mut AsyncPgConnection) -> QueryResult<Vec<(String, String)>> {
    FindTopicsToCleanUp {}.load(conn).await
}

/// Whether a device with these names in topics was deleted, and the broker may keep something for it.
pub(super) async fn is_being_cleaned_up(conn: &mut AsyncPgConnection, home: &str, device: &str) -> QueryResult<bool> {
    IsBeingCleanedUp { home, device }.get_result(conn).await
}
