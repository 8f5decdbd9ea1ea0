//! What this server remembers of ends, and who waits for which. One lock over both, so that nobody
//! slips in between the question whether something has ended and the wait for its end.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use chrono::{DateTime, SubsecRound, Utc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Revocation, Watch};
use crate::auth::{ACCESS_TOKEN_LIFETIME, Actor, MAX_CLOCK_SKEW, Principal};
use crate::ids::{HomeId, SessionId, UserId};

/// Told to all who wait for one end.
pub(super) type Signal = CancellationToken;

/// Revocation sessions remembered at once. Beyond it every token of a session issued so far is refused
/// instead: clients fetch new ones, and nothing that has ended comes back.
const MAX_SESSIONS: usize = 100_000;
/// Rows known to be applied at once. Beyond it they are forgotten; applying one again does little harm.
const MAX_APPLIED: usize = 100_000;
/// How long an ended session is remembered: no access token of it lives longer, and clocks differ.
const REMEMBER: Duration = Duration::from_secs(ACCESS_TOKEN_LIFETIME.as_secs() + 300);
/// How long a row counts as applied: longer than rows are kept, so that none ends anything twice.
const REMEMBER_APPLIED: Duration = Duration::from_secs(25 * 3600);

/// What somebody may wait for the end of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Key {
    Session(SessionId),
    /// Of a token that belongs to no session.
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
    watched: HashMap<Key, Arc<Signal>>,
    /// With the moment at which it may be forgotten.
    sessions: HashMap<SessionId, Instant>,
    /// One entry for each person whose tokens were ended within the longest life of a token.
    tokens: HashMap<UserId, DateTime<Utc>>,
    /// Tokens of sessions issued up to here are refused: the sessions were too many to remember.
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

    /// With a principal: ended from the start where that has ended.
    pub(super) fn watch(this: &Arc<Self>, key: Key, principal: Option<&Principal>) -> Watch {
        let mut state = this.lock();
        if principal.is_some_and(|principal| state.is_revoked(principal)) {
            let signal = Signal::new();
            signal.cancel();
            return Watch { signal: Arc::new(signal), key: None, cache: this.clone() };
        }
        let signal = state.watched.entry(key).or_default().clone();
        Watch { signal, key: Some(key), cache: this.clone() }
    }

    pub(super) fn leave(&self, key: Key, signal: &Arc<Signal>) {
        let mut state = self.lock();
        // The map's and the leaver's: nobody else is left. After an end another may stand there.
        let is_last = |present: &Arc<Signal>| Arc::ptr_eq(present, signal) && Arc::strong_count(signal) == 2;
        if state.watched.get(&key).is_some_and(is_last) {
            state.watched.remove(&key);
        }
    }

    /// Ends what a row tells, unless it was applied before.
    pub(super) fn apply(&self, row: i64, ended: Revocation, now: DateTime<Utc>) {
        let mut state = self.lock();
        if state.applied.len() >= MAX_APPLIED {
            state.applied.clear();
        }
        if state.applied.insert(row, Instant::now()).is_none() {
            state.end(ended, now);
        }
    }

    /// Ends whatever is waited for: nobody knows any more what has ended.
    pub(super) fn end_all(&self) {
        self.lock().signal(|_| true);
    }

    /// Forgets what no token can outlive.
    pub(super) fn tidy(&self) {
        let mut state = self.lock();
        state.tidy(Instant::now());
        state.applied.retain(|_, at| at.elapsed() < REMEMBER_APPLIED);
    }
}

impl State {
    fn is_revoked(&self, principal: &Principal) -> bool {
        match principal.actor {
            Actor::Session(session) => {
                self.sessions.contains_key(&session)
                    || self.refused_until.is_some_and(|until| principal.issued_at <= until)
            }
            // It is older than any memory of ours: whoever admits it asks the database too.
            Actor::Integration(token) => self.sessions.contains_key(&token),
            // Whole seconds, as in the token: one made within the second of the end is let live, or one
            // made right after it would be dead.
            Actor::Operator => {
                self.tokens.get(&principal.user).is_some_and(|end| principal.issued_at < end.trunc_subsecs(0))
            }
            // By a clock that may be ahead: one that seems to be made after the end may be from before.
            Actor::External(_) => {
                self.tokens.get(&principal.user).is_some_and(|end| principal.issued_at < *end + MAX_CLOCK_SKEW)
            }
        }
    }

    fn end(&mut self, ended: Revocation, now: DateTime<Utc>) {
        match ended {
            Revocation::Session(session) => {
                self.remember(session, now);
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

    fn remember(&mut self, session: SessionId, now: DateTime<Utc>) {
        let here = Instant::now();
        if self.sessions.len() >= MAX_SESSIONS {
            self.tidy(here);
        }
        if self.sessions.len() >= MAX_SESSIONS {
            tracing::error!(n = MAX_SESSIONS, "too many sessions ended: refusing every access token issued so far");
            self.sessions.clear();
            self.refused_until = Some(now);
            self.signal(|key| matches!(key, Key::Session(_)));
        }
        self.sessions.insert(session, here + REMEMBER);
    }

    fn tidy(&mut self, now: Instant) {
        self.sessions.retain(|_, until| *until > now);
    }

    fn signal(&mut self, ends: impl Fn(&Key) -> bool) {
        self.watched.retain(|key, signal| {
            let ends = ends(key);
            if ends {
                signal.cancel();
            }
            !ends
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
    fn an_ended_session_is_refused_and_its_watchers_are_told() {
        let clock = Clock::movable();
        let revocations = Revocations::new(clock.clone());
        let (one, other) = (SessionId::generate(clock.now()), SessionId::generate(clock.now()));
        let (one, other) = (principal(&clock, Actor::Session(one)), principal(&clock, Actor::Session(other)));
        let (watch, second, others) = (revocations.watch(&one), revocations.watch(&one), revocations.watch(&other));
        let Actor::Session(session) = one.actor else { unreachable!() };
        revocations.apply(&[RecordedRevocation { id: 1, ended: Revocation::Session(session) }]);
        assert!(watch.is_revoked() && second.is_revoked() && !others.is_revoked());
        assert!(is_revoked(&revocations, &one) && !is_revoked(&revocations, &other));
        assert!(revocations.watch(&one).is_revoked());
        drop((watch, second, others));
        assert!(revocations.cache.lock().watched.is_empty());
    }

    #[test]
    fn all_that_is_waited_for_ends_where_nobody_knows_what_has() {
        let clock = Clock::movable();
        let revocations = Revocations::new(clock.clone());
        let someone = principal(&clock, Actor::Session(SessionId::generate(clock.now())));
        let (watch, member) = (revocations.watch(&someone), revocations.watch_membership(someone.user, home(1)));
        revocations.cache.end_all();
        assert!(watch.is_revoked() && member.is_revoked());
        assert!(!is_revoked(&revocations, &someone) && !revocations.watch(&someone).is_revoked());
    }

    #[test]
    fn tokens_without_a_session_end_by_their_time_of_issue() {
        let clock = Clock::movable();
        let revocations = Revocations::new(clock.clone());
        let old = principal(&clock, Actor::Operator);
        clock.advance(chrono::TimeDelta::seconds(2));
        revocations.apply(&[RecordedRevocation { id: 1, ended: Revocation::Tokens(old.user, clock.now()) }]);
        assert!(is_revoked(&revocations, &old));
        assert!(!is_revoked(&revocations, &principal(&clock, Actor::Operator)));
    }

    #[test]
    fn an_issuers_clock_may_be_ahead() {
        let clock = Clock::movable();
        let revocations = Revocations::new(clock.clone());
        let outside = Actor::External(ExternalIdentityId::from_database(1));
        let said = |seconds| {
            let made = principal(&clock, outside);
            Principal { issued_at: made.issued_at + chrono::TimeDelta::seconds(seconds), ..made }
        };
        let (before, after) = (said(29), said(31));
        revocations.apply(&[RecordedRevocation { id: 1, ended: Revocation::Tokens(before.user, clock.now()) }]);
        assert!(is_revoked(&revocations, &before) && revocations.watch(&before).is_revoked());
        assert!(!is_revoked(&revocations, &after));
    }

    #[test]
    fn a_row_ends_a_membership_once_and_a_home_ends_all_of_its() {
        let clock = Clock::movable();
        let revocations = Revocations::new(clock.clone());
        let user = UserId::from_database(7);
        let row = [RecordedRevocation { id: 1, ended: Revocation::Membership(user, home(1)) }];
        let (here, there) = (revocations.watch_membership(user, home(1)), revocations.watch_membership(user, home(2)));
        revocations.apply(&row);
        assert!(here.is_revoked() && !there.is_revoked());
        let again = revocations.watch_membership(user, home(1));
        drop(here);
        revocations.apply(&row);
        assert!(!again.is_revoked(), "they came back after it");
        revocations.apply(&[RecordedRevocation { id: 2, ended: Revocation::Home(home(1)) }]);
        assert!(again.is_revoked() && !there.is_revoked());
    }

    #[test]
    fn too_many_ended_sessions_end_all_tokens_so_far() {
        let clock = Clock::movable();
        let revocations = Revocations::new(clock.clone());
        let other = principal(&clock, Actor::Session(SessionId::generate(clock.now())));
        for id in 0..=i64::try_from(MAX_SESSIONS).unwrap() {
            let ended = Revocation::Session(SessionId::generate(clock.now()));
            revocations.apply(&[RecordedRevocation { id, ended }]);
        }
        assert!(is_revoked(&revocations, &other));
        clock.advance(chrono::TimeDelta::seconds(2));
        let fresh = principal(&clock, Actor::Session(SessionId::generate(clock.now())));
        assert!(!is_revoked(&revocations, &fresh));
    }
}
