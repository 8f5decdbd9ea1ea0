//! SQL of the devices' accounts at the broker.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_types::{Nullable, Text, Timestamptz, Untyped};
use diesel::upsert::excluded;
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use crate::db::schema::{device_credentials, devices, mqtt_clients as clients};
use crate::db::{locks, statement};

/// User name, the id of its credential, the sealed password, the device's client id.
type Pending = (String, Option<i64>, Option<Vec<u8>>, Option<String>);

statement! {
    struct AdoptAccounts("sql/adopt_accounts.sql") -> Untyped {
        now: Timestamptz = DateTime<Utc>,
    }
}

statement! {
    struct FindAccounts("sql/find_accounts.sql") -> (Text, Nullable<Text>, Nullable<Text>) {
        now: Timestamptz = DateTime<Utc>,
    }
}

/// Inserts accounts, or new passwords of existing accounts.
pub(super) async fn put(
    conn: &mut AsyncPgConnection,
    rows: &[(String, i64, Vec<u8>)],
    now: DateTime<Utc>,
) -> QueryResult<()> {
    let rows: Vec<_> = rows
        .iter()
        .map(|(username, credential, sealed)| {
            (
                clients::username.eq(username),
                clients::credential_id.eq(credential),
                clients::sealed_password.eq(sealed),
                clients::changed_at.eq(now),
            )
        })
        .collect();
    diesel::insert_into(clients::table)
        .values(rows)
        .on_conflict(clients::username)
        .do_update()
        .set((
            clients::credential_id.eq(excluded(clients::credential_id)),
            clients::sealed_password.eq(excluded(clients::sealed_password)),
            clients::changed_at.eq(excluded(clients::changed_at)),
        ))
        .execute(conn)
        .await
        .map(drop)
}

/// Takes the lock of the server that provisions the broker, for the length of the connection. False where another
/// server holds it.
pub(super) async fn try_lock(conn: &mut AsyncPgConnection) -> QueryResult<bool> {
    locks::try_lock(conn, locks::PROVISIONING, None).await
}

/// Adds accounts for devices that were registered before this provisioning was configured.
pub(super) async fn adopt(conn: &mut AsyncPgConnection, now: DateTime<Utc>) -> QueryResult<usize> {
    AdoptAccounts { now }.execute(conn).await
}

/// Deletes the passwords whose grace period is over. The foreign key then marks their accounts for removal.
pub(super) async fn expire(conn: &mut AsyncPgConnection, now: DateTime<Utc>) -> QueryResult<usize> {
    let expired = device_credentials::table.filter(device_credentials::expires_at.le(now));
    diesel::delete(expired).execute(conn).await
}

/// Accounts whose change the broker has not confirmed, removals first.
pub(super) async fn pending(conn: &mut AsyncPgConnection, limit: i64) -> QueryResult<Vec<Pending>> {
    clients::table
        .left_join(device_credentials::table.on(device_credentials::id.nullable().eq(clients::credential_id)))
        .left_join(devices::table.on(devices::id.nullable().eq(device_credentials::device_id.nullable())))
        .filter(clients::credential_id.is_null().or(clients::sealed_password.is_not_null()))
        .order((clients::credential_id.is_not_null(), clients::changed_at))
        .limit(limit)
        .select((
            clients::username,
            clients::credential_id,
            clients::sealed_password,
            devices::mqtt_client_id.nullable(),
        ))
        .load(conn)
        .await
}

pub(super) async fn confirm_password(conn: &mut AsyncPgConnection, username: &str, sealed: &[u8]) -> QueryResult<()> {
    let row = clients::table.filter(clients::username.eq(username).and(clients::sealed_password.eq(sealed)));
    diesel::update(row).set(clients::sealed_password.eq(None::<Vec<u8>>)).execute(conn).await.map(drop)
}

pub(super) async fn confirm_removal(conn: &mut AsyncPgConnection, username: &str) -> QueryResult<()> {
    let row = clients::table.filter(clients::username.eq(username).and(clients::credential_id.is_null()));
    diesel::delete(row).execute(conn).await.map(drop)
}

/// Every account that the broker must have, and whether it has confirmed the password.
pub(super) async fn expected(conn: &mut AsyncPgConnection) -> QueryResult<Vec<(String, bool)>> {
    clients::table
        .filter(clients::credential_id.is_not_null())
        .select((clients::username, clients::sealed_password.is_null()))
        .load(conn)
        .await
}

/// Every user name with the hash of its newest password and the device's client id.
pub(super) async fn stored(
    conn: &mut AsyncPgConnection,
    now: DateTime<Utc>,
) -> QueryResult<Vec<(String, Option<String>, Option<String>)>> {
    FindAccounts { now }.load(conn).await
}
