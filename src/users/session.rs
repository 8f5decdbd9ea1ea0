//! Sessions: a short-lived access token and an opaque, single-use refresh token. All refresh tokens of one login are a
//! family. A used token that is presented again ends its family, because two parties must hold it.
//!
//! A client whose answer was lost, or of which two tabs refresh at once, presents a used token too. Within a grace period
//! the token is exchanged again, unless one of its successors was used. All tokens that one token is exchanged for are
//! a generation, and count as used when one of them is. Where there are several, the grace period holds only for the
//! network from which the first of them was exchanged: a thief who was quick enough to have one is noticed at the next
//! refresh.

use std::net::IpAddr;

use chrono::{DateTime, TimeDelta, Utc};
use tokio::time::Instant;

use super::{User, Users, WRONG_LOGIN, refresh_tokens_store as tokens, store};
use crate::auth::{ACCESS_TOKEN_LIFETIME, Actor};
use crate::db;
use crate::error::{CredentialsError, Error};
use crate::ids::{SessionId, UserId};
use crate::opaque_token;
use crate::revocation::{RecordedRevocation, Revocation, Revocations};
use crate::throttle::network;

/// A refresh token expires after this time without use.
const IDLE_LIFETIME: TimeDelta = TimeDelta::days(30);
/// Most sessions of one account. A new session ends the least recently used one.
const MAX_SESSIONS_PER_USER: i64 = 100;
/// A family ends after this time, however often it is used.
const ABSOLUTE_LIFETIME: TimeDelta = TimeDelta::days(90);
/// How long a used token can be exchanged again.
const REUSE_GRACE: TimeDelta = TimeDelta::seconds(30);
/// How long used tokens are retained to detect a replay. A later replay is an unknown token and ends nothing.
const REPLAY_DETECTION: TimeDelta = TimeDelta::days(7);

const INVALID: Error =
    Error::Unauthenticated(CredentialsError::TokenInvalid, "invalid or expired refresh token: sign in again");
const REUSED: Error = Error::Unauthenticated(
    CredentialsError::RefreshReused,
    "this refresh token was used before, so its session has been ended: sign in again",
);

/// The result of signing in or refreshing.
pub struct Session {
    pub access_token: String,
    /// Expiry of the access token.
    pub expires_at: DateTime<Utc>,
    /// Never shown again.
    pub refresh_token: String,
    pub user: User,
}

impl Users {
    /// Exchanges a refresh token for a new one of the same session. A used token ends its family, unless the request
    /// arrived within `REUSE_GRACE` of the first use. The time that the request waits here for a connection or a lock
    /// does not count.
    pub async fn refresh(&self, token: &str, from: Option<IpAddr>) -> Result<Session, Error> {
        let arrived_at = Instant::now();
        self.throttle.address_attempt(from)?;
        let address = from.map(|from| from.to_string());
        let hash = opaque_token::digest(token).ok_or(INVALID)?;
        let now = self.clock.now();
        let next = opaque_token::generate("");
        let next_hash = opaque_token::digest(&next).ok_or(INVALID)?;
        // The revocation of a replay must be committed, so a refusal is a value here and not an error.
        let apply = self.revocations.on_commit();
        let after_commit = move |outcome: Result<_, Refused>| outcome.map_err(|refused| refused.map(apply));
        let outcome = db::transaction(&self.pool, move |conn| {
            Box::pin(async move {
                let Some(user) = store::lock_by_token(conn, &hash).await? else { return Ok(Err(None)) };
                let Some(token) = tokens::find_token(conn, &hash, now).await? else { return Ok(Err(None)) };
                let session = SessionId::from_database(token.family);
                if !may_be_exchanged(conn, &token, from, arrived_at).await? {
                    return Ok(Err(Some(end_replayed_family(conn, user, session).await?)));
                }
                tokens::use_generation(conn, &token, now + REPLAY_DETECTION).await?;
                let began = session.began().ok_or_else(|| Error::internal("a token family without a time"))?;
                let expires_at = (now + IDLE_LIFETIME).min(began + ABSOLUTE_LIFETIME);
                if expires_at <= now {
                    return Ok(Err(None));
                }
                let (family, generation, hash) = (token.family, token.generation + 1, &next_hash);
                let token =
                    tokens::NewRefreshToken { user, family, generation, hash, created_at: now, expires_at, address };
                tokens::insert_refresh(conn, &token).await?;
                let user = store::by_ids(conn, &[user]).await?.pop();
                Ok(user.map(|user| (user, session)).ok_or(None))
            })
        })
        .after_commit(after_commit)
        .await?;
        let (user, session) = outcome.map_err(|replay| replay.map_or(INVALID, |()| REUSED))?;
        Ok(self.session(user, session, next))
    }

    /// Ends the family of a refresh token. `true` also for an unknown token.
    pub async fn logout(&self, token: &str) -> Result<bool, Error> {
        let Some(hash) = opaque_token::digest(token) else { return Ok(true) };
        let now = self.clock.now();
        db::transaction(&self.pool, move |conn| {
            Box::pin(async move {
                let Some(user) = store::lock_by_token(conn, &hash).await? else { return Ok(Vec::new()) };
                let Some(token) = tokens::find_token(conn, &hash, now).await? else { return Ok(Vec::new()) };
                end_family(conn, user, SessionId::from_database(token.family)).await
            })
        })
        .after_commit(self.revocations.on_commit())
        .await?;
        Ok(true)
    }

    /// Starts a session for a user whose password was verified against `password_hash`, if that is still their hash.
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
                tokens::delete_expired_of_user(conn, id, now).await?;
                let expires_at = now + IDLE_LIFETIME;
                let family = session.as_uuid();
                let (user, generation, hash) = (id, 0, &hash);
                let token =
                    tokens::NewRefreshToken { user, family, generation, hash, created_at: now, expires_at, address };
                tokens::insert_refresh(conn, &token).await?;
                let ended = tokens::delete_oldest_families(conn, id, MAX_SESSIONS_PER_USER).await?;
                let of_session = |family| Revocation::Session(Some(id), SessionId::from_database(family));
                let ended: Vec<_> = ended.into_iter().map(of_session).collect();
                Revocations::record(conn, &ended).await
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

/// A refusal to exchange a token. A replay has ended its session, which is to be announced.
type Refused = Option<Vec<RecordedRevocation>>;

/// Whether a token is unused, or one of its generation was used a moment ago, by the same client as far as can be told.
async fn may_be_exchanged(
    conn: &mut db::Connection,
    token: &tokens::RefreshToken,
    from: Option<IpAddr>,
    arrived_at: Instant,
) -> Result<bool, Error> {
    let Some(age) = token.age_of_use else { return Ok(true) };
    let waited = TimeDelta::from_std(arrived_at.elapsed()).unwrap_or_default();
    if age - waited > REUSE_GRACE || tokens::has_used_successor(conn, token).await? {
        return Ok(false);
    }
    // A token without a twin was used by whoever holds it, perhaps a phone that has changed its network since.
    if !tokens::has_twin(conn, token).await? {
        return Ok(true);
    }
    let first: Option<IpAddr> = tokens::first_exchange_address(conn, token).await?.and_then(|text| text.parse().ok());
    Ok(first.map(network) == from.map(network))
}

/// Ends a family and records its revocation; nothing if it has ended already.
pub(super) async fn end_family(
    conn: &mut db::Connection,
    user: UserId,
    session: SessionId,
) -> Result<Vec<RecordedRevocation>, Error> {
    match tokens::delete_family(conn, session.as_uuid()).await? {
        0 => Ok(Vec::new()),
        _ => Revocations::record(conn, &[Revocation::Session(Some(user), session)]).await,
    }
}

async fn end_replayed_family(
    conn: &mut db::Connection,
    user: UserId,
    family: SessionId,
) -> Result<Vec<RecordedRevocation>, Error> {
    let ended = end_family(conn, user, family).await?;
    if !ended.is_empty() {
        tracing::warn!(%family, "a used refresh token was presented again: its session has been ended");
    }
    Ok(ended)
}
