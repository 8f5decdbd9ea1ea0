//! What has ended before its time: sessions, memberships, homes. The one place that knows, for every
//! surface: requests ask [`Revocations::check`], sockets and streams hold a [`Watch`].
//!
//! Whoever ends something writes it down in the transaction that ends it ([`Revocations::record`]) and
//! tells this server after the commit ([`Revocations::apply`]). Other servers on the database are told
//! by a notification and look for themselves every second. One that can't look any more, or has not yet,
//! judges no token by what it remembers.

mod cache;
mod follow;
mod freshness;
mod store;

use std::sync::Arc;

use chrono::{DateTime, Utc};
use tokio::time::Instant;

use crate::auth::{Actor, InvalidToken, Principal};
use crate::clock::Clock;
use crate::db::Connection;
use crate::error::Error;
use crate::ids::{HomeId, SessionId, UserId};
use cache::{Key, RevocationCache, Signal};
use freshness::Freshness;

/// Something that has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Revocation {
    /// A session, or an integration's token: its access tokens, its sockets.
    Session(SessionId),
    /// Every token of a person that belongs to no session and was issued before that second.
    Tokens(UserId, DateTime<Utc>),
    /// A member's place in a home, or a part of its rights.
    Membership(UserId, HomeId),
    /// A home.
    Home(HomeId),
}

/// An end that is written down, and to be told once its transaction has committed.
#[derive(Debug, Clone, Copy)]
#[must_use = "tell this server after the commit"]
pub struct RecordedRevocation {
    id: i64,
    ended: Revocation,
}

/// What has ended. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Revocations {
    cache: Arc<RevocationCache>,
    freshness: Freshness,
    clock: Clock,
}

/// Tells when something ends. Costs one entry for all who watch the same.
pub struct Watch {
    signal: Arc<Signal>,
    key: Option<Key>,
    cache: Arc<RevocationCache>,
}

impl Revocations {
    /// Knows of nothing, and admits nobody by it, until [`Revocations::follow`] runs.
    pub fn new(clock: Clock) -> Self {
        Self { cache: Arc::default(), freshness: Freshness::default(), clock }
    }

    /// Whether a valid token still stands for somebody; `UNAVAILABLE` where only memory could tell, and it
    /// knows too little.
    pub async fn check(&self, principal: &Principal) -> Result<(), Error> {
        let is_known = match principal.actor {
            Actor::Session(_) | Actor::Operator | Actor::External(_) => self.freshness.wait_until_fresh().await,
            // Whoever admits it asks the database too.
            Actor::Integration(_) => true,
        };
        // What is known to have ended has, whatever else is not known.
        if self.cache.is_revoked(principal) {
            return Err(InvalidToken.into());
        }
        if is_known { Ok(()) } else { Err(Error::unavailable("what has ended elsewhere can't be read")) }
    }

    /// Whether what has ended elsewhere is known here, but for a few seconds at most.
    pub fn is_current(&self) -> bool {
        self.freshness.is_fresh()
    }

    /// As [`Self::is_current`], now or in a moment.
    pub async fn wait_until_current(&self) -> bool {
        self.freshness.wait_until_fresh().await
    }

    /// Everything that had ended before this moment has been told.
    pub fn mark_synced(&self, at: Instant) {
        self.freshness.mark_synced(at);
    }

    /// Ends with what the principal's token belongs to; at once if that has ended already. The token's
    /// own expiry is not watched.
    pub fn watch(&self, principal: &Principal) -> Watch {
        RevocationCache::watch(&self.cache, Key::of(principal), Some(principal))
    }

    /// Ends when somebody loses rights in a home. What has happened before this call is not seen: read
    /// the membership after it.
    pub fn watch_membership(&self, user: UserId, home: HomeId) -> Watch {
        RevocationCache::watch(&self.cache, Key::Member(user, home), None)
    }

    /// Writes ends down in the transaction that makes them.
    pub async fn record(conn: &mut Connection, ended: &[Revocation]) -> Result<Vec<RecordedRevocation>, Error> {
        if ended.is_empty() {
            return Ok(Vec::new());
        }
        Ok(store::insert(conn, ended).await?)
    }

    /// What [`after_commit`](crate::db::Transaction::after_commit) does with what was recorded: [`Revocations::apply`].
    pub fn on_commit(&self) -> impl FnOnce(Vec<RecordedRevocation>) + Send + 'static {
        let this = self.clone();
        move |recorded| this.apply(&recorded)
    }

    /// Ends, on this server, what was recorded. After the commit.
    pub fn apply(&self, recorded: &[RecordedRevocation]) {
        for RecordedRevocation { id, ended } in recorded {
            self.cache.apply(*id, *ended, self.clock.now());
        }
    }
}

impl Watch {
    /// Waits for the end.
    pub async fn revoked(&self) {
        self.signal.cancelled().await;
    }

    /// Whether it has ended.
    pub fn is_revoked(&self) -> bool {
        self.signal.is_cancelled()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            self.cache.leave(key, &self.signal);
        }
    }
}
