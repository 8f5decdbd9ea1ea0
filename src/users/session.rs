//! Sessions: a short access token and an opaque refresh token that is good for one use. All tokens
//! that descend from one login are a family; a used one that comes again ends the family, because
//! then two parties hold it. Requests that meet with one token are no two parties: one of them wins.

use std::net::IpAddr;

use chrono::{DateTime, TimeDelta, Utc};

use super::{User, Users, WRONG_LOGIN, store};
use crate::auth::{ACCESS_TOKEN_LIFETIME, Actor};
use crate::db;
use crate::error::Error;
use crate::ids::SessionId;
use crate::opaque_token;
use crate::revocation::{RecordedRevocation, Revocation, Revocations};

/// A refresh token nobody used for so long is worth nothing.
const IDLE: TimeDelta = TimeDelta::days(30);
/// Sessions one account may have; a new one ends the one that was not used for longest.
const MAX_SESSIONS_PER_USER: i64 = 100;
/// The longest a family lives, however often it is used.
const ABSOLUTE: TimeDelta = TimeDelta::days(90);
/// How long a used token is known as such. One that comes later is unknown, and ends nothing.
const REPLAY_KNOWN: TimeDelta = TimeDelta::days(7);

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
    /// Exchanges a refresh token for a new session. Of several at once exactly one wins, and the others
    /// are refused; a token that was used before ends its whole family.
    pub async fn refresh(&self, token: &str, from: Option<IpAddr>) -> Result<Session, Error> {
        self.throttle.address_attempt(from)?;
        let address = from.map(|from| from.to_string());
        let hash = opaque_token::digest(token).ok_or(INVALID)?;
        let now = self.clock.now();
        let next = opaque_token::generate("");
        let next_hash = opaque_token::digest(&next).ok_or(INVALID)?;
        // The revocation must be committed, so refusal is a value here and not an error.
        let end = self.revocations.on_commit();
        let tell = move |outcome: Result<_, _>| outcome.map_err(end);
        let outcome = db::transaction(&self.pool, move |conn| {
            Box::pin(async move {
                // Before the lock: what was unused here and is used behind it has lost a race.
                let Some((family, was_used)) = store::family_of(conn, &hash, now).await? else {
                    return Ok(Err(Vec::new()));
                };
                if store::lock_by_token(conn, &hash).await?.is_none() {
                    return Ok(Err(Vec::new()));
                }
                if was_used {
                    return Ok(Err(punish_replay(conn, SessionId::from_database(family)).await?));
                }
                let Some(user) = store::use_refresh(conn, &hash, now, now + REPLAY_KNOWN).await? else {
                    return Ok(Err(Vec::new()));
                };
                let began = SessionId::from_database(family).began();
                let began = began.ok_or_else(|| Error::internal("a token family without a time"))?;
                let expires_at = (now + IDLE).min(began + ABSOLUTE);
                if expires_at <= now {
                    return Ok(Err(Vec::new()));
                }
                let hash = &next_hash;
                let token = store::NewRefreshToken { user, family, hash, created_at: now, expires_at, address };
                store::insert_refresh(conn, &token).await?;
                let user = store::by_ids(conn, &[user]).await?.pop();
                Ok(user.map(|user| (user, SessionId::from_database(family))).ok_or_else(Vec::new))
            })
        })
        .after_commit(tell)
        .await?;
        let (user, session) = outcome.map_err(|()| INVALID)?;
        Ok(self.session(user, session, next))
    }

    /// Ends the family of a refresh token. Says `true` also where there was nothing to end.
    pub async fn logout(&self, token: &str) -> Result<bool, Error> {
        let Some(hash) = opaque_token::digest(token) else { return Ok(true) };
        let now = self.clock.now();
        db::transaction(&self.pool, move |conn| {
            Box::pin(async move {
                store::lock_by_token(conn, &hash).await?;
                let Some((family, _)) = store::family_of(conn, &hash, now).await? else { return Ok(Vec::new()) };
                end_family(conn, SessionId::from_database(family)).await
            })
        })
        .after_commit(self.revocations.on_commit())
        .await?;
        Ok(true)
    }

    /// Begins a family for somebody whose password was right, if it still is: `password_hash` is what
    /// it was compared with.
    pub(super) async fn open_session(
        &self,
        user: User,
        password_hash: String,
        from: Option<IpAddr>,
    ) -> Result<Session, Error> {
        let address = from.map(|from| from.to_string());
        let (token, now, id) = (opaque_token::generate(""), self.clock.now(), user.id);
        let hash = opaque_token::digest(&token).ok_or(INVALID)?;
        let session = SessionId::generate(now);
        db::transaction(&self.pool, move |conn| {
            Box::pin(async move {
                if store::lock_password(conn, id).await? != Some(password_hash) {
                    return Err(WRONG_LOGIN);
                }
                store::purge_refresh(conn, id, now).await?;
                let expires_at = now + IDLE;
                let family = session.as_uuid();
                let hash = &hash;
                let token = store::NewRefreshToken { user: id, family, hash, created_at: now, expires_at, address };
                store::insert_refresh(conn, &token).await?;
                let old = store::forget_oldest(conn, id, MAX_SESSIONS_PER_USER).await?;
                let old: Vec<_> =
                    old.into_iter().map(|family| Revocation::Session(SessionId::from_database(family))).collect();
                Revocations::record(conn, &old).await
            })
        })
        .after_commit(self.revocations.on_commit())
        .await?;
        Ok(self.session(user, session, token))
    }

    fn session(&self, user: User, session: SessionId, refresh_token: String) -> Session {
        let (access_token, expires_at) = self.tokens.issue(user.id, Actor::Session(session), ACCESS_TOKEN_LIFETIME);
        Session { access_token, expires_at, refresh_token, user }
    }
}

/// Ends a family, once.
pub(super) async fn end_family(
    conn: &mut db::Connection,
    session: SessionId,
) -> Result<Vec<RecordedRevocation>, Error> {
    match store::forget_family(conn, session.as_uuid()).await? {
        0 => Ok(Vec::new()),
        _ => Revocations::record(conn, &[Revocation::Session(session)]).await,
    }
}

async fn punish_replay(conn: &mut db::Connection, family: SessionId) -> Result<Vec<RecordedRevocation>, Error> {
    let ended = end_family(conn, family).await?;
    if !ended.is_empty() {
        tracing::warn!(%family, "a used refresh token came again: its session is ended");
    }
    Ok(ended)
}
