//! The revocations this server knows, and the watches on them. One lock covers both: otherwise a revocation
//! could arrive between the check and the start of the watch.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use chrono::{DateTime, SubsecRound, Utc};
use tokio::time::Instant;

use super::{Revocation, Watch};
use crate::auth::{ACCESS_TOKEN_LIFETIME, Actor, MAX_CLOCK_SKEW, Principal};
use crate::ids::{HomeId, SessionId, UserId};
use crate::latch::Latch;

/// Revoked sessions kept at once. When they are full, every access token of a session issued so far is refused
/// instead: clients refresh their tokens, and no revoked session becomes valid again.
const MAX_SESSIONS: usize = 100_000;
/// Row ids known to be applied. When they are full, all are dropped: applying a row twice does little harm.
const MAX_APPLIED: usize = 100_000;
/// Time to keep a revoked session: the lifetime of its access tokens and some clock skew.
const SESSION_TTL: Duration = Duration::from_secs(ACCESS_TOKEN_LIFETIME.as_secs() + 300);
/// Time to keep an applied row id: longer than the rows themselves are kept, so that none is applied twice.
const APPLIED_TTL: Duration = Duration::from_secs(25 * 3600);

/// What can be watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Key {
    Session(SessionId),
    /// A user's tokens that belong to no session.
    Tokens(UserId),
    Member(UserId, HomeId),
}

impl Key {
    pub(super) fn of(principal: &Principal) -> Self {
        match principal.actor {
            Actor::Session(session) | Actor::Integration(session) => Self::Session(session),
            Actor::Operator | Actor::External(_) => Self::Tokens(principal.user),
        }
    }
}

#[derive(Default)]
pub(super) struct RevocationCache(Mutex<State>);

#[derive(Default)]
struct State {
    /// Set when the key is revoked; shared by all watches of the key.
    watched: HashMap<Key, Arc<Latch>>,
    /// Revoked sessions and when each entry expires.
    sessions: HashMap<SessionId, Instant>,
    /// Tokens issued before this moment are revoked. One entry a user, for the longest lifetime of a token.
    tokens: HashMap<UserId, DateTime<Utc>>,
    /// Tokens of sessions issued up to this moment are refused: `sessions` was full then.
    refused_until: Option<DateTime<Utc>>,
    applied: HashMap<i64, Instant>,
}

impl RevocationCache {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("revocations lock")
    }

    pub(super) fn is_revoked(&self, principal: &Principal) -> bool {
        self.lock().is_revoked(principal)
    }

    /// Starts a watch. With a principal that is revoked already, the watch starts signalled.
    pub(super) fn watch(this: &Arc<Self>, key: Key, principal: Option<&Principal>) -> Watch {
        let mut state = this.lock();
        if principal.is_some_and(|principal| state.is_revoked(principal)) {
            let revoked = Latch::default();
            revoked.set();
            return Watch { revoked: Arc::new(revoked), key: None, cache: this.clone() };
        }
        let revoked = state.watched.entry(key).or_default().clone();
        Watch { revoked, key: Some(key), cache: this.clone() }
    }

    pub(super) fn unwatch(&self, key: Key, revoked: &Arc<Latch>) {
        let mut state = self.lock();
        // Two references are the map's and the caller's. After a revocation the key may have a newer latch.
        let is_last = |present: &Arc<Latch>| Arc::ptr_eq(present, revoked) && Arc::strong_count(revoked) == 2;
        if state.watched.get(&key).is_some_and(is_last) {
            state.watched.remove(&key);
        }
    }

    /// Applies a row unless it was applied before.
    pub(super) fn apply(&self, row: i64, revocation: Revocation, now: DateTime<Utc>) {
        let mut state = self.lock();
        if state.applied.len() >= MAX_APPLIED {
            state.applied.clear();
        }
        if state.applied.insert(row, Instant::now()).is_none() {
            state.revoke(revocation, now);
        }
    }

    /// Signals every watch: some revocations are unknown.
    pub(super) fn revoke_all_watches(&self) {
        self.lock().signal(|_| true);
    }

    /// Removes entries that no token can outlive.
    pub(super) fn purge(&self) {
        let mut state = self.lock();
        state.purge_sessions(Instant::now());
        state.applied.retain(|_, at| at.elapsed() < APPLIED_TTL);
    }
}

impl State {
    fn is_revoked(&self, principal: &Principal) -> bool {
        let tokens_end = self.tokens.get(&principal.user);
        match principal.actor {
            Actor::Session(session) => {
                self.sessions.contains_key(&session)
                    || self.refused_until.is_some_and(|until| principal.issued_at <= until)
            }
            // The token may be older than this cache: `Integrations::admit` asks the database as well.
            Actor::Integration(token) => self.sessions.contains_key(&token),
            // Whole seconds, as in the token. A token made within the second of the revocation stays valid,
            // because one made right after it must be.
            Actor::Operator => tokens_end.is_some_and(|end| principal.issued_at < end.trunc_subsecs(0)),
            // The issuer's clock may be ahead: its time of issue may lie after the revocation though the token
            // was made before it.
            Actor::External(_) => tokens_end.is_some_and(|end| principal.issued_at < *end + MAX_CLOCK_SKEW),
        }
    }

    fn revoke(&mut self, revocation: Revocation, now: DateTime<Utc>) {
        match revocation {
            Revocation::Session(session) => {
                self.insert_session(session, now);
                self.signal(|key| *key == Key::Session(session));
            }
            Revocation::Tokens(user, before) => {
                let end = self.tokens.entry(user).or_insert(before);
                *end = before.max(*end);
                self.signal(|key| *key == Key::Tokens(user));
            }
            Revocation::Membership(user, home) => self.signal(|key| *key == Key::Member(user, home)),
            Revocation::Home(home) => self.signal(|key| matches!(key, Key::Member(_, of) if *of == home)),
        }
    }

    fn insert_session(&mut self, session: SessionId, now: DateTime<Utc>) {
        let inserted_at = Instant::now();
        if self.sessions.len() >= MAX_SESSIONS {
            self.purge_sessions(inserted_at);
        }
        if self.sessions.len() >= MAX_SESSIONS {
            tracing::error!(n = MAX_SESSIONS, "too many revoked sessions: refusing every access token issued so far");
            self.sessions.clear();
            self.refused_until = Some(now);
            self.signal(|key| matches!(key, Key::Session(_)));
        }
        self.sessions.insert(session, inserted_at + SESSION_TTL);
    }

    fn purge_sessions(&mut self, now: Instant) {
        self.sessions.retain(|_, until| *until > now);
    }

    fn signal(&mut self, is_affected: impl Fn(&Key) -> bool) {
        self.watched.retain(|key, revoked| {
            let is_affected = is_affected(key);
            if is_affected {
                revoked.set();
            }
            !is_affected
        });
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock::Clock;
    use crate::ids::ExternalIdentityId;
    use crate::revocation::{RecordedRevocation, Revocations};

    fn principal(clock: &Clock, actor: Actor) -> Principal {
        let now = clock.now().trunc_subsecs(0);
        let expires_at = now + Duration::from_secs(900);
        Principal { user: UserId::from_database(7), actor, issued_at: now, expires_at }
    }

    fn is_revoked(revocations: &Revocations, principal: &Principal) -> bool {
        revocations.cache.is_revoked(principal)
    }

    fn home(id: i64) -> HomeId {
        HomeId::from_database(id)
    }

    #[test]
    fn a_revoked_session_is_refused_and_its_watches_are_signalled() {
        let clock = Clock::movable();
        let revocations = Revocations::new(clock.clone());
        let (one, other) = (SessionId::generate(clock.now()), SessionId::generate(clock.now()));
        let (one, other) = (principal(&clock, Actor::Session(one)), principal(&clock, Actor::Session(other)));
        let (watch, second, others) = (revocations.watch(&one), revocations.watch(&one), revocations.watch(&other));
        let Actor::Session(session) = one.actor else { unreachable!() };
        revocations.apply(&[RecordedRevocation { id: 1, revocation: Revocation::Session(session) }]);
        assert!(watch.is_revoked() && second.is_revoked() && !others.is_revoked());
        assert!(is_revoked(&revocations, &one) && !is_revoked(&revocations, &other));
        assert!(revocations.watch(&one).is_revoked());
        drop((watch, second, others));
        assert!(revocations.cache.lock().watched.is_empty());
    }

    #[test]
    fn all_watches_are_signalled_when_revocations_were_missed() {
        let clock = Clock::movable();
        let revocations = Revocations::new(clock.clone());
        let someone = principal(&clock, Actor::Session(SessionId::generate(clock.now())));
        let (watch, member) = (revocations.watch(&someone), revocations.watch_membership(someone.user, home(1)));
        revocations.cache.revoke_all_watches();
        assert!(watch.is_revoked() && member.is_revoked());
        assert!(!is_revoked(&revocations, &someone) && !revocations.watch(&someone).is_revoked());
    }

    #[test]
    fn tokens_without_a_session_are_revoked_by_their_time_of_issue() {
        let clock = Clock::movable();
        let revocations = Revocations::new(clock.clone());
        let old = principal(&clock, Actor::Operator);
        clock.advance(chrono::TimeDelta::seconds(2));
        revocations.apply(&[RecordedRevocation { id: 1, revocation: Revocation::Tokens(old.user, clock.now()) }]);
        assert!(is_revoked(&revocations, &old));
        assert!(!is_revoked(&revocations, &principal(&clock, Actor::Operator)));
    }

    #[test]
    fn an_issuers_clock_may_be_ahead() {
        let clock = Clock::movable();
        let revocations = Revocations::new(clock.clone());
        let external = Actor::External(ExternalIdentityId::from_database(1));
        let issued = |seconds| {
            let made = principal(&clock, external);
            Principal { issued_at: made.issued_at + chrono::TimeDelta::seconds(seconds), ..made }
        };
        let (before, after) = (issued(29), issued(31));
        revocations.apply(&[RecordedRevocation { id: 1, revocation: Revocation::Tokens(before.user, clock.now()) }]);
        assert!(is_revoked(&revocations, &before) && revocations.watch(&before).is_revoked());
        assert!(!is_revoked(&revocations, &after));
    }

    #[test]
    fn a_row_is_applied_once_and_a_home_revokes_all_its_memberships() {
        let clock = Clock::movable();
        let revocations = Revocations::new(clock.clone());
        let user = UserId::from_database(7);
        let row = [RecordedRevocation { id: 1, revocation: Revocation::Membership(user, home(1)) }];
        let (here, there) = (revocations.watch_membership(user, home(1)), revocations.watch_membership(user, home(2)));
        revocations.apply(&row);
        assert!(here.is_revoked() && !there.is_revoked());
        let again = revocations.watch_membership(user, home(1));
        drop(here);
        revocations.apply(&row);
        assert!(!again.is_revoked(), "the user became a member again");
        revocations.apply(&[RecordedRevocation { id: 2, revocation: Revocation::Home(home(1)) }]);
        assert!(again.is_revoked() && !there.is_revoked());
    }

    #[test]
    fn when_too_many_sessions_are_revoked_all_tokens_issued_so_far_are() {
        let clock = Clock::movable();
        let revocations = Revocations::new(clock.clone());
        let other = principal(&clock, Actor::Session(SessionId::generate(clock.now())));
        for id in 0..=i64::try_from(MAX_SESSIONS).unwrap() {
            let revocation = Revocation::Session(SessionId::generate(clock.now()));
            revocations.apply(&[RecordedRevocation { id, revocation }]);
        }
        assert!(is_revoked(&revocations, &other));
        clock.advance(chrono::TimeDelta::seconds(2));
        let fresh = principal(&clock, Actor::Session(SessionId::generate(clock.now())));
        assert!(!is_revoked(&revocations, &fresh));
    }
}
