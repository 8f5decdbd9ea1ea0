//! Revoked sessions whose access tokens may still be valid, with a bounded share for each user.

use std::collections::HashMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::time::Instant;

use crate::auth::ACCESS_TOKEN_LIFETIME;
use crate::ids::{SessionId, UserId};

/// Revoked sessions kept of one user: twice as many as an account has open. For a user with more, all access tokens
/// issued so far are refused instead: their clients refresh, and no revoked session becomes valid again.
const MAX_OF_USER: usize = 200;
/// Revoked sessions kept of all users, about 8 MiB. While so many are kept, a further one is handled as if its user
/// had too many.
const MAX_SESSIONS: usize = 100_000;
/// Slots for the users of whom all tokens are refused: 4 MiB, allocated at the first use. Users share a slot only if
/// there are more accounts than slots.
const SLOTS: usize = 1 << 20;
/// Least pause between two searches for expired entries, which take time proportional to their number.
const PURGE_PAUSE: Duration = Duration::from_secs(1);
/// Time to keep a revoked session: the lifetime of its access tokens and some clock skew.
const TTL: Duration = Duration::from_secs(ACCESS_TOKEN_LIFETIME.as_secs() + 300);

/// Of whom all tokens are refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    /// Of the users with this slot.
    Slot(usize),
    /// Of all users: the sessions belong to unknown users.
    Everyone,
}

impl Refused {
    pub(super) fn covers(self, user: UserId) -> bool {
        match self {
            Self::Slot(refused) => refused == slot(user),
            Self::Everyone => true,
        }
    }
}

#[derive(Default)]
pub(super) struct RevokedSessions {
    /// The user of each session and when its entry expires.
    sessions: HashMap<SessionId, (Option<UserId>, Instant)>,
    of_users: HashMap<UserId, usize>,
    /// For each slot the second up to which issued tokens are refused. Empty until the first.
    refused_until: Vec<u32>,
    purged_at: Option<Instant>,
}

impl RevokedSessions {
    pub(super) fn contains(&self, user: UserId, session: SessionId, issued_at: DateTime<Utc>) -> bool {
        self.sessions.contains_key(&session)
            || self.refused_until.get(slot(user)).is_some_and(|until| second(issued_at) <= *until)
    }

    /// Adds a session. Returns whose tokens are refused instead if there is no room for it. The user is unknown in
    /// rows of earlier releases.
    pub(super) fn insert(&mut self, user: Option<UserId>, session: SessionId, now: DateTime<Utc>) -> Option<Refused> {
        let inserted_at = Instant::now();
        if self.sessions.contains_key(&session) {
            return None;
        }
        if self.is_full(user) && self.purged_at.is_none_or(|at| inserted_at - at >= PURGE_PAUSE) {
            self.purge(inserted_at);
            let n = self.sessions.len();
            if n >= MAX_SESSIONS {
                tracing::warn!(n, "too many revoked sessions: refusing all tokens of users that end further ones");
            }
        }
        if self.is_full(user) {
            return Some(self.refuse(user, now));
        }
        self.sessions.insert(session, (user, inserted_at + TTL));
        if let Some(user) = user {
            *self.of_users.entry(user).or_default() += 1;
        }
        None
    }

    /// Removes entries that no token can outlive.
    pub(super) fn purge(&mut self, now: Instant) {
        self.purged_at = Some(now);
        self.retain(|_, until| until > now);
    }

    fn is_full(&self, user: Option<UserId>) -> bool {
        let of_user = user.and_then(|user| self.of_users.get(&user));
        self.sessions.len() >= MAX_SESSIONS || of_user.is_some_and(|n| *n >= MAX_OF_USER)
    }

    /// Refuses all tokens of a user and drops the user's entries, which no longer matter.
    fn refuse(&mut self, user: Option<UserId>, now: DateTime<Utc>) -> Refused {
        self.refused_until.resize(SLOTS, 0);
        let Some(user) = user else {
            tracing::error!(n = MAX_SESSIONS, "too many revoked sessions: refusing every access token issued so far");
            self.refused_until.fill(second(now));
            return Refused::Everyone;
        };
        self.refused_until[slot(user)] = second(now);
        if self.of_users.contains_key(&user) {
            tracing::warn!(%user, "too many revoked sessions of one user: refusing their access tokens issued so far");
            self.retain(|of, _| of != Some(user));
        }
        Refused::Slot(slot(user))
    }

    fn retain(&mut self, is_kept: impl Fn(Option<UserId>, Instant) -> bool) {
        let of_users = &mut self.of_users;
        self.sessions.retain(|_, (user, until)| {
            let is_kept = is_kept(*user, *until);
            if !is_kept
                && let Some(user) = user
                && let Some(n) = of_users.get_mut(user)
            {
                *n -= 1;
                if *n == 0 {
                    of_users.remove(user);
                }
            }
            is_kept
        });
    }
}

fn slot(user: UserId) -> usize {
    usize::try_from(user.get()).unwrap_or_default() % SLOTS
}

/// Whole seconds since 1970.
fn second(at: DateTime<Utc>) -> u32 {
    u32::try_from(at.timestamp().max(0)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;
    use crate::clock::Clock;

    fn user(id: i64) -> UserId {
        UserId::from_database(id)
    }

    fn session() -> SessionId {
        SessionId::from_database(uuid::Uuid::new_v4())
    }

    #[test]
    fn a_user_with_too_many_revoked_sessions_loses_their_own_tokens_only() {
        let (mut revoked, now) = (RevokedSessions::default(), Clock::movable().now());
        let (first, other) = (session(), session());
        assert_eq!(revoked.insert(Some(user(1)), first, now), None);
        for _ in 1..MAX_OF_USER {
            assert_eq!(revoked.insert(Some(user(1)), session(), now), None);
        }
        assert!(revoked.contains(user(1), first, now) && !revoked.contains(user(1), other, now));
        assert_eq!(revoked.insert(Some(user(1)), session(), now), Some(Refused::Slot(1)));
        assert!(revoked.sessions.is_empty() && revoked.of_users.is_empty());
        assert!(revoked.contains(user(1), first, now) && revoked.contains(user(1), other, now));
        assert!(!revoked.contains(user(1), other, now + TimeDelta::seconds(1)), "a new token is valid");
        assert!(!revoked.contains(user(2), session(), now));
    }

    #[test]
    fn a_full_table_refuses_the_tokens_of_further_users_only() {
        let (mut revoked, now) = (RevokedSessions::default(), Clock::movable().now());
        let max = i64::try_from(MAX_SESSIONS).unwrap();
        for id in 1..=max {
            assert_eq!(revoked.insert(Some(user(id)), session(), now), None);
        }
        let last = user(max + 1);
        assert_eq!(revoked.insert(Some(last), session(), now), Some(Refused::Slot(MAX_SESSIONS + 1)));
        assert!(revoked.contains(last, session(), now) && !revoked.contains(user(max + 2), session(), now));
        assert_eq!(revoked.sessions.len(), MAX_SESSIONS);
        revoked.purge(Instant::now() + TTL);
        assert!(revoked.sessions.is_empty() && revoked.of_users.is_empty());
    }

    #[test]
    fn too_many_sessions_of_unknown_users_refuse_every_token() {
        let (mut revoked, now) = (RevokedSessions::default(), Clock::movable().now());
        for _ in 0..MAX_SESSIONS {
            assert_eq!(revoked.insert(None, session(), now), None);
        }
        assert_eq!(revoked.insert(None, session(), now), Some(Refused::Everyone));
        assert!(revoked.contains(user(9), session(), now));
    }
}
