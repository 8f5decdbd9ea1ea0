//! Revocations: sessions, memberships and homes that ended before their tokens expire. Every surface uses this
//! module: requests call [`Revocations::check`], sockets and streams hold a [`Watch`].
//!
//! Code that ends something inserts a revocation in the same transaction ([`Revocations::record`]) and applies
//! it on this server after the commit ([`Revocations::apply`]). Other servers on the database receive a
//! notification and poll the table every second. A server whose last poll is too old, or that has not polled
//! yet, refuses to judge tokens from its cache.

mod cache;
mod confirmed_tokens;
mod follow;
mod freshness;
mod revoked_sessions;
mod store;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::time::Instant;

use crate::auth::{Actor, Principal, TokenError};
use crate::clock::Clock;
use crate::db::Connection;
use crate::error::Error;
use crate::ids::{HomeId, SessionId, UserId};
use crate::latch::Latch;
use cache::{Key, RevocationCache, Signal};
use freshness::Freshness;

pub use confirmed_tokens::Confirmation;

/// What was revoked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Revocation {
    /// A session: its access tokens and sockets. Its user is unknown in rows of earlier releases.
    Session(Option<UserId>, SessionId),
    /// The token of an integration of a home, and its sockets.
    Integration(HomeId, SessionId),
    /// Every token of a user that belongs to no session and was issued before that second.
    Tokens(UserId, DateTime<Utc>),
    /// A user's membership in a home, or some of its rights.
    Membership(UserId, HomeId),
    /// A home.
    Home(HomeId),
}

/// A revocation inserted in an open transaction. Apply it once the transaction has committed.
#[derive(Debug, Clone, Copy)]
#[must_use = "apply it on this server after the commit"]
pub struct RecordedRevocation {
    id: i64,
    revocation: Revocation,
}

/// The revocations this server knows. Cheap to clone; all clones share one state.
#[derive(Clone)]
pub struct Revocations {
    cache: Arc<RevocationCache>,
    freshness: Freshness,
    clock: Clock,
}

/// Signals a revocation. All watches of one session or membership share one cache entry.
pub struct Watch {
    signal: Arc<Signal>,
    key: Option<Key>,
    cache: Arc<RevocationCache>,
}

impl Revocations {
    /// Starts empty. Tokens are refused as `UNAVAILABLE` until [`Revocations::follow`] has polled once.
    pub fn new(clock: Clock) -> Self {
        Self { cache: Arc::default(), freshness: Freshness::default(), clock }
    }

    /// Fails when a valid token was revoked. `UNAVAILABLE` when only the cache could tell and it is stale.
    pub async fn check(&self, principal: &Principal) -> Result<(), Error> {
        let is_fresh = match principal.actor {
            Actor::Session(_) | Actor::Operator | Actor::External(_) => self.freshness.wait_until_fresh().await,
            // The caller asks the database: `Integrations::authenticate`.
            Actor::Integration(_) => true,
        };
        // A known revocation counts even when the cache is stale.
        if self.cache.is_revoked(principal) {
            return Err(TokenError::Invalid.into());
        }
        if is_fresh { Ok(()) } else { Err(Error::unavailable("revocations can't be read")) }
    }

    /// Whether this server knows all revocations up to a few seconds ago.
    pub fn is_current(&self) -> bool {
        self.freshness.is_fresh()
    }

    /// As [`Self::is_current`], after waiting a moment for the next poll if need be.
    pub async fn wait_until_current(&self) -> bool {
        self.freshness.wait_until_fresh().await
    }

    /// Whether the database confirmed an integration's token within `max_age` and no revocation came since. It says
    /// nothing while this server is not current.
    pub fn is_confirmed(&self, token: SessionId, max_age: Duration) -> bool {
        self.cache.is_confirmed(token, max_age)
    }

    /// To be called before an integration's token is looked up in the database.
    pub fn begin_confirmation(&self, token: SessionId) -> Confirmation {
        self.cache.begin_confirmation(token)
    }

    /// Records what the database said of the token.
    pub fn end_confirmation(&self, check: Confirmation, is_valid: bool) {
        self.cache.end_confirmation(check, is_valid);
    }

    /// All revocations committed before this moment are applied.
    pub fn mark_synced(&self, at: Instant) {
        self.freshness.mark_synced(at);
    }

    /// Watches the session or tokens of an authenticated principal. Already revoked: the watch starts signalled. The
    /// token's own expiry is not watched.
    pub fn watch(&self, principal: &Principal) -> Watch {
        RevocationCache::watch(&self.cache, Key::of(principal), Some(principal))
    }

    /// Watches a user's rights in a home. Earlier revocations are not seen: read the membership after this call.
    pub fn watch_membership(&self, user: UserId, home: HomeId) -> Watch {
        RevocationCache::watch(&self.cache, Key::Member(user, home), None)
    }

    /// Inserts revocations in the transaction that ends the sessions or memberships.
    pub async fn record(conn: &mut Connection, revocations: &[Revocation]) -> Result<Vec<RecordedRevocation>, Error> {
        if revocations.is_empty() {
            return Ok(Vec::new());
        }
        Ok(store::insert(conn, revocations).await?)
    }

    /// The callback for [`after_commit`](crate::db::Transaction::after_commit): [`Revocations::apply`].
    pub fn on_commit(&self) -> impl FnOnce(Vec<RecordedRevocation>) + Send + 'static {
        let this = self.clone();
        move |recorded| this.apply(&recorded)
    }

    /// Applies recorded revocations on this server, after their commit.
    pub fn apply(&self, recorded: &[RecordedRevocation]) {
        for RecordedRevocation { id, revocation } in recorded {
            self.cache.apply(*id, *revocation, self.clock.now());
        }
    }
}

impl Watch {
    /// Waits for the revocation.
    pub async fn revoked(&self) {
        self.signal.revoked.wait().await;
    }

    /// The latch that the revocation sets. It does not keep the watch.
    pub fn latch(&self) -> Latch {
        self.signal.revoked.clone()
    }

    /// Whether it was revoked.
    pub fn is_revoked(&self) -> bool {
        self.signal.revoked.is_set()
    }

    /// Whether the home of a membership was deleted.
    pub fn is_home_deleted(&self) -> bool {
        self.signal.home_deleted.load(Ordering::Acquire)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            self.cache.unwatch(key, &self.signal);
        }
    }
}
