//! What has ended before its time: sessions, memberships, homes. The one place that knows, for every
//! surface: requests ask [`Revocations::admit`], sockets and streams hold a [`Watch`].
//!
//! Whoever ends something writes it down in the transaction that ends it ([`Revocations::record`]) and
//! tells this server after the commit ([`Revocations::apply`]). Other servers on the database are told
//! by a notification and look for themselves every second.

mod follow;
mod memory;
mod store;

use std::sync::Arc;

use chrono::{DateTime, Utc};

use crate::auth::{InvalidToken, Principal};
use crate::clock::Clock;
use crate::db::Connection;
use crate::error::Error;
use crate::ids::{HomeId, SessionId, UserId};
use memory::{Key, Memory, Signal};

/// Something that has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
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
pub struct Recorded {
    id: i64,
    ended: Ended,
}

/// What has ended. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Revocations {
    memory: Arc<Memory>,
    clock: Clock,
}

/// Tells when something ends. Costs one entry for all who watch the same.
pub struct Watch {
    signal: Arc<Signal>,
    key: Option<Key>,
    memory: Arc<Memory>,
}

impl Revocations {
    /// Knows of nothing until it is told, or [`Revocations::follow`] runs.
    pub fn new(clock: Clock) -> Self {
        Self { memory: Arc::default(), clock }
    }

    /// Whether a valid token still stands for somebody.
    pub fn admit(&self, principal: &Principal) -> Result<(), InvalidToken> {
        if self.memory.has_ended(principal) { Err(InvalidToken) } else { Ok(()) }
    }

    /// Ends with what the principal's token belongs to; at once if that has ended already. The token's
    /// own expiry is not watched.
    pub fn watch(&self, principal: &Principal) -> Watch {
        Memory::watch(&self.memory, Key::of(principal), Some(principal))
    }

    /// Ends when somebody loses rights in a home. What has happened before this call is not seen: read
    /// the membership after it.
    pub fn watch_membership(&self, user: UserId, home: HomeId) -> Watch {
        Memory::watch(&self.memory, Key::Member(user, home), None)
    }

    /// Writes ends down in the transaction that makes them.
    pub async fn record(conn: &mut Connection, ended: &[Ended]) -> Result<Vec<Recorded>, Error> {
        if ended.is_empty() {
            return Ok(Vec::new());
        }
        Ok(store::insert(conn, ended).await?)
    }

    /// Ends, on this server, what was recorded. After the commit.
    pub fn apply(&self, recorded: &[Recorded]) {
        for Recorded { id, ended } in recorded {
            self.memory.apply(*id, *ended, self.clock.now());
        }
    }
}

impl Watch {
    /// Waits for the end.
    pub async fn ended(&self) {
        self.signal.cancelled().await;
    }

    /// Whether it has ended.
    pub fn has_ended(&self) -> bool {
        self.signal.is_cancelled()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            self.memory.leave(key, &self.signal);
        }
    /// What [`transaction_then`](crate::db::transaction_then) does with what was recorded: [`Revocations::apply`].
    pub fn on_commit(&self) -> impl FnOnce(Vec<Recorded>) + Send + 'static {
        let this = self.clone();
        move |recorded| this.apply(&recorded)
    }

    }
}
