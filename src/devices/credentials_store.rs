//! SQL of the devices' passwords.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use super::credentials::MqttUser;
use super::logins::LoginGrant;
use crate::db::schema::{device_credentials as credentials, devices, homes};
use crate::ids::{DeviceId, HomeId};

/// What is kept of one fresh password.
pub(super) struct NewCredential {
    /// Whose it is.
    pub(super) device: DeviceId,
    /// By which of its names.
    pub(super) slot: i16,
    /// See [`super::credentials::password_digest`].
    pub(super) digest: Vec<u8>,
    /// See [`super::credentials::broker_hash`].
    pub(super) broker_hash: String,
}

/// One that still holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Queryable)]
pub(super) struct Live {
    pub(super) id: i64,
    pub(super) slot: i16,
    pub(super) expires_at: Option<DateTime<Utc>>,
}

/// One that holds, with whose it is.
#[derive(Debug, Queryable)]
struct Key {
    id: i64,
    digest: Vec<u8>,
    expires_at: Option<DateTime<Utc>>,
    home: HomeId,
    device: DeviceId,
    login_credential_id: Option<i64>,
}

/// Inserts them, at most one a device, and returns their ids by device.
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

/// The home's and the device's keys, with the device held: one rotation at a time.
pub(super) async fn lock_device(
    conn: &mut AsyncPgConnection,
    home: HomeId,
    device: DeviceId,
) -> QueryResult<Option<(String, String)>> {
    let row = devices::table.filter(devices::id.eq(device).and(devices::home_id.eq(home)));
    let key: Option<String> = row.select(devices::key).for_no_key_update().first(conn).await.optional()?;
    let Some(key) = key else { return Ok(None) };
    let home_key: String = homes::table.find(home).select(homes::key).first(conn).await?;
    Ok(Some((home_key, key)))
}

/// The device's newest password that still holds.
pub(super) async fn newest(
    conn: &mut AsyncPgConnection,
    device: DeviceId,
    now: DateTime<Utc>,
) -> QueryResult<Option<Live>> {
    credentials::table
        .filter(credentials::device_id.eq(device))
        .filter(credentials::expires_at.is_null().or(credentials::expires_at.gt(now)))
        .order(credentials::id.desc())
        .select((credentials::id, credentials::slot, credentials::expires_at))
        .first(conn)
        .await
        .optional()
}

/// Takes all the device's passwords away but, where one is given, this one, which then has an end.
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

/// Those of the user's passwords that hold.
async fn live(conn: &mut AsyncPgConnection, user: MqttUser<'_>, now: DateTime<Utc>) -> QueryResult<Vec<Key>> {
    credentials::table
        .inner_join(devices::table.on(devices::id.eq(credentials::device_id)))
        .inner_join(homes::table.on(homes::id.eq(devices::home_id)))
        .filter(homes::key.eq(user.home).and(devices::key.eq(user.device)))
        .filter(credentials::slot.eq(user.slot))
        .filter(credentials::expires_at.is_null().or(credentials::expires_at.gt(now)))
        .order(credentials::id.desc())
        .select((
            credentials::id,
            credentials::secret_hash,
            credentials::expires_at,
            devices::home_id,
            devices::id,
            devices::login_credential_id,
        ))
        .load(conn)
        .await
}

/// Whether this is the digest of a password of the user that holds; notes that it opened the door.
pub(super) async fn authenticate(
    conn: &mut AsyncPgConnection,
    user: MqttUser<'_>,
    digest: &[u8],
    now: DateTime<Utc>,
) -> QueryResult<bool> {
    // Digests of a random secret: their comparison's time tells nothing of use.
    let keys = live(conn, user, now).await?;
    let Some(key) = keys.iter().find(|key| key.digest == digest) else { return Ok(false) };
    if key.login_credential_id != Some(key.id) {
        let device = devices::table.find(key.device);
        diesel::update(device).set(devices::login_credential_id.eq(key.id)).execute(conn).await?;
    }
    Ok(true)
}

/// The device of that user, if the password its connection came by holds. Where it came by none that we
/// know of (a certificate, or before this was noted) any password that holds will do.
pub(super) async fn grant(
    conn: &mut AsyncPgConnection,
    user: MqttUser<'_>,
    now: DateTime<Utc>,
) -> QueryResult<Option<LoginGrant>> {
    let keys = live(conn, user, now).await?;
    let key =
        keys.iter().find(|key| key.login_credential_id.is_none_or(|login_credential_id| login_credential_id == key.id));
    Ok(key.map(|key| LoginGrant { home: key.home, device: key.device, expires_at: key.expires_at }))
}

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
