//! SQL of the broker's accounts.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_types::{Bool, Nullable, Text, Timestamptz};
use diesel::upsert::excluded;
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use crate::db::locks;
use crate::db::schema::{device_credentials, mqtt_clients as clients};

/// A user name as [`super::MqttUser`] writes it.
const USERNAME: &str = "h.key || '/' || d.key || case c.slot when 1 then '~1' else '' end";

/// Name, its password's row, the sealed password.
type Pending = (String, Option<i64>, Option<Vec<u8>>);

/// New names, or new passwords of names that are there.
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

/// Whether this connection is the one that tells the broker.
pub(super) async fn lease(conn: &mut AsyncPgConnection) -> QueryResult<bool> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Bool)]
        leased: bool,
    }
    let query = diesel::sql_query(format!(
        "select pg_try_advisory_lock({}, hashtext(current_schema())) as leased",
        locks::PROVISIONING
    ));
    Ok(query.get_result::<Row>(conn).await?.leased)
}

/// Takes note of devices that were registered before this kind of broker was chosen.
pub(super) async fn adopt(conn: &mut AsyncPgConnection, now: DateTime<Utc>) -> QueryResult<usize> {
    let sql = format!(
        "insert into mqtt_clients (username, credential_id, changed_at) select distinct on (1) {USERNAME}, c.id, $1 \
         from device_credentials c join devices d on d.id = c.device_id join homes h on h.id = d.home_id \
         where c.expires_at is null or c.expires_at > $1 order by 1, c.id desc on conflict do nothing"
    );
    diesel::sql_query(sql).bind::<Timestamptz, _>(now).execute(conn).await
}

/// Ends the passwords whose time is over.
pub(super) async fn expire(conn: &mut AsyncPgConnection, now: DateTime<Utc>) -> QueryResult<usize> {
    let over = device_credentials::table.filter(device_credentials::expires_at.le(now));
    diesel::delete(over).execute(conn).await
}

pub(super) async fn pending(conn: &mut AsyncPgConnection, limit: i64) -> QueryResult<Vec<Pending>> {
    clients::table
        .filter(clients::credential_id.is_null().or(clients::sealed_password.is_not_null()))
        .order((clients::credential_id.is_not_null(), clients::changed_at))
        .limit(limit)
        .select((clients::username, clients::credential_id, clients::sealed_password))
        .load(conn)
        .await
}

pub(super) async fn settle_put(conn: &mut AsyncPgConnection, username: &str, sealed: &[u8]) -> QueryResult<()> {
    let row = clients::table.filter(clients::username.eq(username).and(clients::sealed_password.eq(sealed)));
    diesel::update(row).set(clients::sealed_password.eq(None::<Vec<u8>>)).execute(conn).await.map(drop)
}

pub(super) async fn settle_removal(conn: &mut AsyncPgConnection, username: &str) -> QueryResult<()> {
    let row = clients::table.filter(clients::username.eq(username).and(clients::credential_id.is_null()));
    diesel::delete(row).execute(conn).await.map(drop)
}

/// Every name that is to be there, and whether the broker has been told its password.
pub(super) async fn wanted(conn: &mut AsyncPgConnection) -> QueryResult<Vec<(String, bool)>> {
    clients::table
        .filter(clients::credential_id.is_not_null())
        .select((clients::username, clients::sealed_password.is_null()))
        .load(conn)
        .await
}

/// Every name with its newest password's hash.
pub(super) async fn stored(
    conn: &mut AsyncPgConnection,
    now: DateTime<Utc>,
) -> QueryResult<Vec<(String, Option<String>)>> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Text)]
        username: String,
        #[diesel(sql_type = Nullable<Text>)]
        hash: Option<String>,
    }
    let sql = format!(
        "select distinct on (1) {USERNAME} as username, c.broker_hash as hash \
         from device_credentials c join devices d on d.id = c.device_id join homes h on h.id = d.home_id \
         where c.expires_at is null or c.expires_at > $1 order by 1, c.id desc"
    );
    let rows: Vec<Row> = diesel::sql_query(sql).bind::<Timestamptz, _>(now).load(conn).await?;
    Ok(rows.into_iter().map(|row| (row.username, row.hash)).collect())
}
