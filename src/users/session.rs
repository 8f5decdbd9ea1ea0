//! Sessions: a short access token and an opaque refresh token that is good for one use. All tokens
//! that descend from one login are a family; a used one that comes again ends the family, because
//! then two parties hold it.

use chrono::{DateTime, TimeDelta, Utc};
use uuid::{NoContext, Timestamp, Uuid};

use super::{User, Users, WRONG_LOGIN, store};
use crate::auth::ACCESS_TOKEN_LIFE;
use crate::db;
use crate::error::Error;
use crate::opaque;

/// A refresh token nobody used for so long is worth nothing.
const IDLE: TimeDelta = TimeDelta::days(30);
/// The longest a family lives, however often it is used.
const ABSOLUTE: TimeDelta = TimeDelta::days(90);

const INVALID: Error = Error::Unauthenticated("invalid or expired refresh token: sign in again");

/// What a client gets when it signs in or refreshes.
pub struct Session {
    /// The access token.
    pub access_token: String,
    /// When the access token ends.
    pub expires_at: DateTime<Utc>,
    /// The refresh token, never seen again.
    pub refresh_token: String,
    /// Whose it is.
    pub user: User,
}

impl Users {
    /// Exchanges a refresh token for a new session. Of several at once exactly one wins; a token that
    /// was used before ends its whole family.
    pub async fn refresh(&self, token: &str) -> Result<Session, Error> {
        let hash = opaque::digest(token).ok_or(INVALID)?;
        let now = self.clock.now();
        let next = opaque::generate("");
        let next_hash = opaque::digest(&next).ok_or(INVALID)?;
        // The revocation must be committed, so refusal is a value here and not an error.
        let user = db::transaction(&self.pool, move |conn| {
            Box::pin(async move {
                if store::lock_by_token(conn, &hash).await?.is_none() {
                    return Ok(None);
                }
                let Some((user, family)) = store::use_refresh(conn, &hash, now).await? else {
                    punish_replay(conn, &hash, now).await?;
                    return Ok(None);
                };
                let expires_at = (now + IDLE).min(began(family)? + ABSOLUTE);
                if expires_at <= now {
                    return Ok(None);
                }
                let token = store::NewRefreshToken { user, family, hash: &next_hash, created_at: now, expires_at };
                store::insert_refresh(conn, &token).await?;
                Ok(store::by_ids(conn, &[user]).await?.pop())
            })
        })
        .await?
        .ok_or(INVALID)?;
        Ok(self.session(user, next))
    }

    /// Ends the family of a refresh token. Says `true` also where there was nothing to end.
    pub async fn logout(&self, token: &str) -> Result<bool, Error> {
        let Some(hash) = opaque::digest(token) else { return Ok(true) };
        let now = self.clock.now();
        db::transaction(&self.pool, move |conn| {
            Box::pin(async move {
                store::lock_by_token(conn, &hash).await?;
                if let Some((family, _)) = store::family_of(conn, &hash).await? {
                    store::revoke_family(conn, family, now).await?;
                }
                Ok(true)
            })
        })
        .await
    }

    /// Begins a family for somebody whose password was right, if it still is: `password_hash` is what
    /// it was compared with.
    pub(super) async fn open_session(&self, user: User, password_hash: String) -> Result<Session, Error> {
        let (token, now, id) = (opaque::generate(""), self.clock.now(), user.id);
        let hash = opaque::digest(&token).ok_or(INVALID)?;
        let family = new_family(now);
        db::transaction(&self.pool, move |conn| {
            Box::pin(async move {
                if store::lock_password(conn, id).await? != Some(password_hash) {
                    return Err(WRONG_LOGIN);
                }
                store::purge_refresh(conn, id, now).await?;
                let expires_at = now + IDLE;
                let token = store::NewRefreshToken { user: id, family, hash: &hash, created_at: now, expires_at };
                Ok(store::insert_refresh(conn, &token).await?)
            })
        })
        .await?;
        Ok(self.session(user, token))
    }

    fn session(&self, user: User, refresh_token: String) -> Session {
        let (access_token, expires_at) = self.tokens.issue(user.id, ACCESS_TOKEN_LIFE);
        Session { access_token, expires_at, refresh_token, user }
    }
}

async fn punish_replay(conn: &mut db::Connection, hash: &[u8], now: DateTime<Utc>) -> Result<(), Error> {
    if let Some((family, true)) = store::family_of(conn, hash).await? {
        let n_revoked = store::revoke_family(conn, family, now).await?;
        if n_revoked > 0 {
            tracing::warn!(family = %family, "a used refresh token came again: its session is ended");
        }
    }
    Ok(())
}

/// A family's id tells when it began (UUIDv7), so its end needs no column.
fn new_family(now: DateTime<Utc>) -> Uuid {
    let seconds = u64::try_from(now.timestamp()).unwrap_or_default();
    Uuid::new_v7(Timestamp::from_unix(NoContext, seconds, now.timestamp_subsec_nanos()))
}

fn began(family: Uuid) -> Result<DateTime<Utc>, Error> {
    let (seconds, nanos) = family
        .get_timestamp()
        .map(|at| at.to_unix())
        .ok_or_else(|| Error::internal("a token family without a time"))?;
    let seconds = i64::try_from(seconds).map_err(Error::internal)?;
    DateTime::from_timestamp(seconds, nanos).ok_or_else(|| Error::internal("a token family out of time"))
}
