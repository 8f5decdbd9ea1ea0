//! SQL of the devices' passwords.

use chrono::{DateTime, Utc};
use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_types::Bool;
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use super::credentials::{MqttUser, former_client_id};
use crate::db::schema::{device_credentials as credentials, devices, homes};
use crate::ids::{DeviceId, HomeId};

/// What is stored of a new password.
pub(super) struct NewCredential {
    pub(super) device: DeviceId,
    /// See [`MqttUser::slot`].
    pub(super) slot: i16,
    /// See [`super::credentials::password_digest`].
    pub(super) digest: Vec<u8>,
    /// See [`super::credentials::broker_hash`].
    pub(super) broker_hash: String,
}

/// A password that is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Queryable)]
pub(super) struct ValidCredential {
    pub(super) id: i64,
    pub(super) slot: i16,
    pub(super) expires_at: Option<DateTime<Utc>>,
}

/// A valid password of a user, with its device.
#[derive(Debug, Queryable)]
struct UserCredential {
    id: i64,
    digest: Vec<u8>,
    expires_at: Option<DateTime<Utc>>,
    home: HomeId,
    device: DeviceId,
    login_credential_id: Option<i64>,
    /// `None` for a device of an older release.
    client_id: Option<String>,
}

/// The names of a device at the broker.
pub(super) struct BrokerNames {
    pub(super) home_key: String,
    pub(super) key: String,
    pub(super) client_id: String,
}

/// Inserts passwords, at most one a device, and returns their ids by device.
pub(super) async fn insert(
    conn: &mut AsyncPgConnection,
    new: &[NewCredential],
    created_at: DateTime<Utc>,
) -> QueryResult<Vec<(DeviceId, i64)>> {
    let rows: Vec<_> = new
        .iter()
        .map(|new| {
            (
                credentials::device_id.eq(new.device),
                credentials::secret_hash.eq(&new.digest),
                credentials::created_at.eq(created_at),
                credentials::slot.eq(new.slot),
                credentials::broker_hash.eq(&new.broker_hash),
            )
        })
        .collect();
    diesel::insert_into(credentials::table)
        .values(rows)
        .returning((credentials::device_id, credentials::id))
        .get_results(conn)
        .await
}

/// Locks the device, so that one rotation runs at a time, and returns its names.
pub(super) async fn lock_device(
    conn: &mut AsyncPgConnection,
    home: HomeId,
    device: DeviceId,
) -> QueryResult<Option<BrokerNames>> {
    let row = devices::table.filter(devices::id.eq(device).and(devices::home_id.eq(home)));
    let row = row.select((devices::key, devices::mqtt_client_id)).for_no_key_update();
    let Some((key, client_id)) = row.first::<(String, Option<String>)>(conn).await.optional()? else {
        return Ok(None);
    };
    let home_key: String = homes::table.find(home).select(homes::key).first(conn).await?;
    let client_id = client_id.unwrap_or_else(|| former_client_id(&home_key, &key));
    Ok(Some(BrokerNames { home_key, key, client_id }))
}

/// The device's newest valid password.
pub(super) async fn newest(
    conn: &mut AsyncPgConnection,
    device: DeviceId,
    now: DateTime<Utc>,
) -> QueryResult<Option<ValidCredential>> {
    credentials::table
        .filter(credentials::device_id.eq(device))
        .filter(credentials::expires_at.is_null().or(credentials::expires_at.gt(now)))
        .order(credentials::id.desc())
        .select((credentials::id, credentials::slot, credentials::expires_at))
        .first(conn)
        .await
        .optional()
}

/// Deletes the device's passwords, except the one that is kept until the given time.
pub(super) async fn retire(
    conn: &mut AsyncPgConnection,
    device: DeviceId,
    kept: Option<(i64, DateTime<Utc>)>,
) -> QueryResult<()> {
    let all = credentials::table.filter(credentials::device_id.eq(device));
    let kept_id = kept.map_or(0, |(id, _)| id);
    diesel::delete(all.filter(credentials::id.ne(kept_id))).execute(conn).await?;
    if let Some((id, until)) = kept {
        let row = credentials::table.find(id);
        diesel::update(row).set(credentials::expires_at.eq(until)).execute(conn).await?;
    }
    Ok(())
}

/// The valid passwords of a user, newest first. None as long as the broker keeps something for a deleted device with the
/// same keys.
async fn valid(
    conn: &mut AsyncPgConnection,
    user: MqttUser<'_>,
    now: DateTime<Utc>,
) -> QueryResult<Vec<UserCredential>> {
    let is_cleaned_up = sql::<Bool>(
        "not exists (select from broker_cleanups b \
         where b.home_key = homes.key and b.device_key = devices.key and b.cleared_at is null)",
    );
    credentials::table
        .inner_join(devices::table.on(devices::id.eq(credentials::device_id)))
        .inner_join(homes::table.on(homes::id.eq(devices::home_id)))
        .filter(homes::key.eq(user.home).and(devices::key.eq(user.device)))
        .filter(credentials::slot.eq(user.slot))
        .filter(is_cleaned_up)
        .filter(credentials::expires_at.is_null().or(credentials::expires_at.gt(now)))
        .order(credentials::id.desc())
        .select((
            credentials::id,
            credentials::secret_hash,
            credentials::expires_at,
            devices::home_id,
            devices::id,
            devices::login_credential_id,
            devices::mqtt_client_id,
        ))
        .load(conn)
        .await
}

/// What a login is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Login {
    Accepted,
    /// The user has no such password, or does not exist.
    NoSuchPassword,
    /// The password is right, and the client id is not that of the credentials.
    OtherClientId,
}

/// Whether this is the digest of a valid password of the user, and the client id that of the device, if it is given.
/// If so, records the password as the device's login.
pub(super) async fn authenticate(
    conn: &mut AsyncPgConnection,
    user: MqttUser<'_>,
    client_id: Option<&str>,
    digest: &[u8],
    now: DateTime<Utc>,
) -> QueryResult<Login> {
    // The time of comparing digests of random secrets reveals nothing useful.
    let credentials = valid(conn, user, now).await?;
    let Some(used) = credentials.iter().find(|credential| credential.digest == digest) else {
        return Ok(Login::NoSuchPassword);
    };
    let known = used.client_id.clone().unwrap_or_else(|| former_client_id(user.home, user.device));
    if client_id.is_some_and(|given| given != known) {
        return Ok(Login::OtherClientId);
    }
    if used.login_credential_id != Some(used.id) {
        let device = devices::table.find(used.device);
        diesel::update(device).set(devices::login_credential_id.eq(used.id)).execute(conn).await?;
    }
    Ok(Login::Accepted)
}

/// A device whose connection is still authorized.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LoginGrant {
    pub(super) home: HomeId,
    pub(super) device: DeviceId,
    /// When the password of the connection expires, if it does.
    pub(super) expires_at: Option<DateTime<Utc>>,
}

/// The grant of a user whose connection's password is valid. Where no password is recorded (the device has a
/// certificate, or logged in before logins were recorded), any valid password grants.
pub(super) async fn login_grant(
    conn: &mut AsyncPgConnection,
    user: MqttUser<'_>,
    now: DateTime<Utc>,
) -> QueryResult<Option<LoginGrant>> {
    let credentials = valid(conn, user, now).await?;
    let used =
        credentials.iter().find(|credential| credential.login_credential_id.is_none_or(|id| id == credential.id));
    Ok(used.map(|used| LoginGrant { home: used.home, device: used.device, expires_at: used.expires_at }))
}

/// Those of these digests whose passwords are valid.
pub(super) async fn still_valid(
    conn: &mut AsyncPgConnection,
    digests: &[Vec<u8>],
    now: DateTime<Utc>,
) -> QueryResult<Vec<Vec<u8>>> {
    credentials::table
        .filter(credentials::secret_hash.eq_any(digests))
        .filter(credentials::expires_at.is_null().or(credentials::expires_at.gt(now)))
        .select(credentials::secret_hash)
        .load(conn)
        .await
}
