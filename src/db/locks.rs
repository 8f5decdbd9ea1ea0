//! Every advisory lock of the product. A lock's class is its first key; the second key, where there is one,
//! says which of its kind. Advisory locks belong to one database.

use diesel::QueryResult;
use diesel::sql_types::{Bool, Integer, Nullable, Text};
use diesel_async::RunQueryDsl;

use super::{Connection, statement};

/// Held by the server that migrates, for the length of its connection. One key.
pub const MIGRATION: i64 = 7001;

/// Statement that takes the ingest lock for the rest of the transaction. Whatever inserts telemetry or deletes
/// a device takes it: so cursors are in the order of commits, and no reading outlives its device. Its own
/// statement, because what follows must see what was committed before it. `ingest/sql/insert_one.sql` takes it in the
/// statement that inserts, and says why it may.
pub const TAKE_INGEST: &str = "select pg_advisory_xact_lock(7002, hashtext(current_schema()))";

/// Held by the writer of one MQTT client id: the second key is the hash of the client id.
pub const WRITER: i32 = 7003;

/// Held by the dispatcher that sends a device its command: the second key is the hash of the device's id.
pub const COMMAND_OUTBOX: i32 = 7004;

/// Held by the dispatcher that sends a device its configuration: the second key as for commands.
pub const CONFIG_OUTBOX: i32 = 7005;

/// Held by a server that ingests: the second key is the hash of the schema and the topic prefix. Exclusive with a plain
/// subscription, which receives every message; shared with a shared one.
pub const INGEST_SUBSCRIPTION: i32 = 7006;

/// Held in shared mode by each server on standby that reaches the broker: the second key as for the subscription.
pub const INGEST_SUCCESSOR: i32 = 7007;

/// Held by the server that keeps the broker's accounts up to date: the second key is the schema's hash.
pub const PROVISIONING: i32 = 7020;

/// Held by the server that cleans up after deleted devices at the broker: the second key is the schema's hash.
pub const BROKER_CLEANUP: i32 = 7021;

statement! {
    struct TryLock<'a>("sql/try_lock.sql") -> Bool {
        class: Integer = i32,
        key: Nullable<Text> = Option<&'a str>,
    }
}

statement! {
    struct TryLockPrefix<'a>("sql/try_lock_prefix.sql") -> Bool {
        class: Integer = i32,
        prefix: Text = &'a str,
        is_shared: Bool = bool,
    }
}

statement! {
    struct IsPrefixLocked<'a>("sql/is_prefix_locked.sql") -> Bool {
        class: Integer = i32,
        prefix: Text = &'a str,
    }
}

/// Whether another connection holds the lock of a class and a topic prefix.
pub async fn is_prefix_locked(conn: &mut Connection, class: i32, prefix: &str) -> QueryResult<bool> {
    IsPrefixLocked { class, prefix }.get_result(conn).await
}

/// Takes the lock of a class and a topic prefix for this connection if it is free, or held by others in shared mode and
/// asked for in shared mode.
pub async fn try_lock_prefix(conn: &mut Connection, class: i32, prefix: &str, is_shared: bool) -> QueryResult<bool> {
    TryLockPrefix { class, prefix, is_shared }.get_result(conn).await
}

/// Takes the lock of a class for this connection if it is free. The second key is the hash of `key`, by default of
/// the schema's name.
pub async fn try_lock(conn: &mut Connection, class: i32, key: Option<&str>) -> QueryResult<bool> {
    TryLock { class, key }.get_result(conn).await
}
