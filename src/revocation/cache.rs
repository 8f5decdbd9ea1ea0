//! The revocations this server knows, and the watches on them. One lock covers both: otherwise a revocation
//! could arrive between the check and the start of the watch.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use chrono::{DateTime, SubsecRound, Utc};
use tokio::time::Instant;

use super::confirmed_tokens::{Confirmation, ConfirmedTokens};
use super::revoked_sessions::RevokedSessions;
use super::{Revocation, Watch};
use crate::auth::{Actor, MAX_CLOCK_SKEW, Principal};
use crate::ids::{HomeId, SessionId, UserId};
use crate::latch::Latch;

/// Row ids known to be applied. When they are full, the oldest is dropped. A poll reads the rows of about a minute, so
/// a dropped row is rarely applied twice, which does little harm.
const MAX_APPLIED: usize = 100_000;
/// Time to keep an applied row id: longer than the rows themselves are kept, so that none is applied twice.
const APPLIED_TTL: Duration = Duration::from_secs(25 * 3600);

/// What can be watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Key {
    Session(UserId, SessionId),
    /// The token of an integration.
    Integration(SessionId),
    /// A user's tokens that belong to no session.
    Tokens(UserId),
    Member(UserId, HomeId),
}

impl Key {
    pub(super) fn of(principal: &Principal) -> Self {
        match principal.actor {
            Actor::Session(session) => Self::Session(principal.user, session),
            Actor::Integration(token) => Self::Integration(token),
            Actor::Operator | Actor::External(_) => Self::Tokens(principal.user),
        }
    }
}

/// What all watches of one key share.
#[derive(Default)]
pub(super) struct Signal {
    pub(super) revoked: Latch,
    /// Set before `revoked`, if the revocation is the deletion of the home.
    pub(super) home_deleted: AtomicBool,
}

#[derive(Default)]
pub(super) struct RevocationCache(Mutex<State>);

#[derive(Default)]
struct State {
    /// Set when the key is revoked; shared by all watches of the key.
    watched: HashMap<Key, Arc<Signal>>,
    sessions: RevokedSessions,
    integrations: ConfirmedTokens,
    /// Tokens issued before this moment are revoked. One entry a user, for the longest lifetime of a token.
    tokens: HashMap<UserId, DateTime<Utc>>,
    applied: BTreeMap<i64, Instant>,
}

impl RevocationCache {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("revocations lock")
    }

    pub(super) fn is_revoked(&self, principal: &Principal) -> bool {
        self.lock().is_revoked(principal)
    }

    pub(super) fn is_confirmed(&self, token: SessionId, max_age: Duration) -> bool {
        self.lock().integrations.is_confirmed(token, max_age)
    }

    pub(super) fn begin_confirmation(&self, token: SessionId) -> Confirmation {
        self.lock().integrations.begin(token)
    }

    pub(super) fn end_confirmation(&self, check: Confirmation, is_valid: bool) {
        let mut state = self.lock();
        if is_valid { state.integrations.complete(check) } else { state.integrations.remove(check.token) }
    }

    /// Starts a watch. With a principal that is revoked already, the watch starts signalled. The token of an
    /// integration must be confirmed: without an entry it was revoked since.
    pub(super) fn watch(this: &Arc<Self>, key: Key, principal: Option<&Principal>) -> Watch {
        let mut state = this.lock();
        let is_unconfirmed = matches!(key, Key::Integration(token) if !state.integrations.contains(token));
        if is_unconfirmed || principal.is_some_and(|principal| state.is_revoked(principal)) {
            let signal = Signal::default();
            signal.revoked.set();
            return Watch { signal: Arc::new(signal), key: None, cache: this.clone() };
        }
        let signal = state.watched.entry(key).or_default().clone();
        Watch { signal, key: Some(key), cache: this.clone() }
    }

    pub(super) fn unwatch(&self, key: Key, signal: &Arc<Signal>) {
        let mut state = self.lock();
        // Two references are the map's and the caller's. After a revocation the key may have a newer signal.
        let is_last = |present: &Arc<Signal>| Arc::ptr_eq(present, signal) && Arc::strong_count(signal) == 2;
        if state.watched.get(&key).is_some_and(is_last) {
            state.watched.remove(&key);
        }
    }

    /// Applies a row unless it was applied before.
    pub(super) fn apply(&self, row: i64, revocation: Revocation, now: DateTime<Utc>) {
        let mut state = self.lock();
        if let Revocation::Integration(..) = revocation {
            // To apply it twice does no harm, so its row needs no memory.
            return state.revoke(revocation, now);
        }
        if state.applied.len() >= MAX_APPLIED {
            state.applied.pop_first();
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
        state.sessions.purge(Instant::now());
        state.applied.retain(|_, at| at.elapsed() < APPLIED_TTL);
    }
}

impl State {
    fn is_revoked(&self, principal: &Principal) -> bool {
        let tokens_end = self.tokens.get(&principal.user);
        match principal.actor {
            Actor::Session(session) => self.sessions.contains(principal.user, session, principal.issued_at),
            // `Integrations::authenticate` asks the database, or `integrations` here.
            Actor::Integration(_) => false,
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
            Revocation::Session(user, session) => {
                let refused = self.sessions.insert(user, session, now);
                self.signal(|key| match *key {
                    Key::Session(of, watched) => {
                        watched == session || refused.is_some_and(|refused| refused.covers(of))
                    }
                    _ => false,
                });
            }
            Revocation::Integration(_, token) => {
                self.integrations.remove(token);
                self.signal(|key| *key == Key::Integration(token));
            }
            Revocation::Tokens(user, before) => {
                let end = self.tokens.entry(user).or_insert(before);
                *end = before.max(*end);
                self.signal(|key| *key == Key::Tokens(user));
            }
            Revocation::Membership(user, home) => self.signal(|key| *key == Key::Member(user, home)),
            Revocation::Home(home) => {
                let is_member = |key: &Key| matches!(key, Key::Member(_, of) if *of == home);
                self.watched
                    .iter()
                    .filter(|(key, _)| is_member(key))
                    .for_each(|(_, signal)| signal.home_deleted.store(true, Ordering::Release));
                self.signal(is_member);
            }
        }
    }

    fn signal(&mut self, is_affected: impl Fn(&Key) -> bool) {
        self.watched.retain(|key, signal| {
            let is_affected = is_affected(key);
            if is_affected {
                signal.revoked.set();
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
        revocations.apply(&[RecordedRevocation { id: 1, revocation: Revocation::Session(Some(one.user), session) }]);
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
    fn the_token_of_an_integration_can_be_watched_while_it_is_confirmed() {
        let clock = Clock::movable();
        let revocations = Revocations::new(clock.clone());
        let token = SessionId::generate(clock.now());
        let bridge = principal(&clock, Actor::Integration(token));
        assert!(revocations.watch(&bridge).is_revoked(), "never confirmed");
        let check = revocations.begin_confirmation(token);
        revocations.end_confirmation(check, true);
        let watch = revocations.watch(&bridge);
        assert!(!watch.is_revoked());
        revocations.apply(&[RecordedRevocation { id: 1, revocation: Revocation::Integration(home(1), token) }]);
        assert!(watch.is_revoked() && revocations.watch(&bridge).is_revoked());
        assert!(revocations.cache.lock().applied.is_empty());
    }
}
