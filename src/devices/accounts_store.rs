//! SQL of the devices' accounts at the broker.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Bool, Nullable, Text, Timestamptz, Untyped};
use diesel::upsert::excluded;
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use crate::db::schema::{device_credentials, mqtt_clients as clients};
use crate::db::{locks, statement};

/// A change of an account that the broker has not confirmed.
#[derive(QueryableByName)]
#[diesel(table_name = clients)]
pub(super) struct Pending {
    pub(super) username: String,
    /// `None` once the credential is deleted.
    pub(super) credential_id: Option<i64>,
    pub(super) sealed_password: Option<Vec<u8>>,
    #[diesel(sql_type = Nullable<Text>)]
    pub(super) mqtt_client_id: Option<String>,
    /// The account must be removed; if it has a credential, it is created again afterwards.
    #[diesel(sql_type = Bool)]
    pub(super) is_removal: bool,
}

/// The homes of the last changes. The next home's turn comes after them.
#[derive(Debug, Default)]
pub(super) struct LastHomes {
    pub(super) removal: String,
    pub(super) password: String,
}

statement! {
    struct AdoptAccounts("sql/adopt_accounts.sql") -> Untyped {
        now: Timestamptz = DateTime<Utc>,
    }
}

statement! {
    struct FindPendingAccounts<'a>("sql/find_pending_accounts.sql") -> Untyped {
        last_removal: Text = &'a str,
        last_password: Text = &'a str,
        limit: BigInt = i64,
    }
}

statement! {
    struct FindAccounts("sql/find_accounts.sql") -> (Text, Nullable<Text>, Nullable<Text>) {
        now: Timestamptz = DateTime<Utc>,
    }
}

/// Inserts accounts, or new passwords of existing accounts. An account whose credential was deleted is removed before
/// it is created again: its connections end at once, whatever waits.
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
            clients::remove_first.eq(clients::remove_first.or(clients::credential_id.is_null())),
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

/// Accounts whose change the broker has not confirmed: removals first, and homes in turn.
pub(super) async fn pending(conn: &mut AsyncPgConnection, last: &LastHomes, limit: i64) -> QueryResult<Vec<Pending>> {
    FindPendingAccounts { last_removal: &last.removal, last_password: &last.password, limit }.load(conn).await
}

pub(super) async fn confirm_password(conn: &mut AsyncPgConnection, username: &str, sealed: &[u8]) -> QueryResult<()> {
    let row = clients::table.filter(clients::username.eq(username).and(clients::sealed_password.eq(sealed)));
    diesel::update(row).set(clients::sealed_password.eq(None::<Vec<u8>>)).execute(conn).await.map(drop)
}

pub(super) async fn confirm_removal(conn: &mut AsyncPgConnection, username: &str) -> QueryResult<()> {
    let row = || clients::table.filter(clients::username.eq(username));
    diesel::delete(row().filter(clients::credential_id.is_null())).execute(conn).await?;
    diesel::update(row()).set(clients::remove_first.eq(false)).execute(conn).await.map(drop)
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
