//! Failed password attempts, and the delays that grow with them. An attempt counts as failed from its start until it
//! is resolved as right, so parallel attempts get no further than sequential ones.

use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use lru::LruCache;
use tokio::time::Instant;

use super::{network, too_soon};
use crate::error::Error;
use crate::ids::{SessionId, UserId};

/// Failures without delay: at one account from one address, or in one session.
const FREE_FAILURES: u32 = 5;
/// Failures without delay at one account from all addresses: an attacker may use many.
const FREE_FAILURES_PER_ACCOUNT: u32 = 50;
/// Failures without delay of one address at all accounts: an attacker may try many.
const FREE_FAILURES_PER_ADDRESS: u32 = 50;
const MAX_DELAY: Duration = Duration::from_secs(60);
/// Time without failures after which earlier ones no longer count.
const RESET_AFTER: Duration = Duration::from_secs(15 * 60);

/// Whose password is tried, and by whom.
#[derive(Debug, Clone, Copy)]
pub enum PasswordSubject<'a> {
    /// A sign-in. An account that does not exist is treated like one that does.
    SignIn {
        /// The login name; empty if the typed text can't be one.
        account: &'a str,
        /// The client's address.
        from: Option<IpAddr>,
        /// Whether the account has signed in from that network before. Then failures of others do not delay it:
        /// otherwise one attempt a minute would lock the owner out for good.
        is_known: bool,
    },
    /// A session, at the password of its user.
    Session(SessionId),
    /// A token without a session, at the password of its user.
    User(UserId),
}

/// The keys that failures are counted by.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Key {
    AccountFrom(String, Option<IpAddr>),
    Account(String),
    Address(IpAddr),
    Session(SessionId),
    User(UserId),
}

#[derive(Debug, Clone, Copy)]
struct Failures {
    n: u32,
    last: Instant,
}

/// Recent failures, in a bounded table.
pub(super) struct FailedPasswords(Mutex<LruCache<Key, Failures>>);

/// An attempt in progress. Dropping it leaves it counted as failed.
#[must_use]
pub struct PasswordAttempt {
    /// `None` when attempts are not counted.
    charged: Option<(Arc<FailedPasswords>, Vec<Charge>)>,
    /// The answer to a wrong password during a delay: the same as if it was not verified.
    refusal: Option<Error>,
    at: Instant,
}

/// What an attempt added to one key.
struct Charge {
    key: Key,
    /// The last failure before this attempt.
    before: Option<Instant>,
}

impl FailedPasswords {
    pub(super) fn new(max_keys: NonZeroUsize) -> Self {
        Self(Mutex::new(LruCache::new(max_keys)))
    }

    /// Starts an attempt and counts it, or fails with the time to wait. Both happen under one lock, so that no other
    /// attempt can start in between.
    pub(super) fn begin(
        this: &Arc<Self>,
        subject: PasswordSubject<'_>,
        now: Instant,
    ) -> Result<PasswordAttempt, Error> {
        let keys = keys(subject);
        let mut table = this.lock();
        let waits = keys.iter().filter_map(|(key, free)| {
            let until = table.peek(key).map(|failures| failures.last + delay(failures.n, *free))?;
            until.checked_duration_since(now).filter(|wait| !wait.is_zero())
        });
        if let Some(wait) = waits.max() {
            return Err(too_soon(wait));
        }
        let charge = |(key, _): (Key, u32)| {
            let before = table.get(&key).copied().filter(|known| known.is_recent(now));
            let n = before.map_or(0, |known| known.n).saturating_add(1);
            table.put(key.clone(), Failures { n, last: now });
            Charge { key, before: before.map(|known| known.last) }
        };
        let charged = keys.into_iter().map(charge).collect();
        Ok(PasswordAttempt { charged: Some((this.clone(), charged)), refusal: None, at: now })
    }

    /// Whether so many attempts failed that some sign-ins at the account from the address must wait.
    pub(super) fn is_sign_in_contended(&self, account: &str, from: Option<IpAddr>, now: Instant) -> bool {
        let keys = keys(PasswordSubject::SignIn { account, from, is_known: false });
        let table = self.lock();
        let is_contended = |(key, free): &(Key, u32)| {
            table.peek(key).is_some_and(|failures| failures.n >= *free && failures.is_recent(now))
        };
        keys.iter().any(is_contended)
    }

    fn lock(&self) -> MutexGuard<'_, LruCache<Key, Failures>> {
        self.0.lock().expect("failed passwords lock")
    }
}

impl PasswordAttempt {
    /// An attempt that is not counted.
    pub(super) fn uncounted() -> Self {
        Self { charged: None, refusal: None, at: Instant::now() }
    }

    /// An attempt that a delay would refuse. It is not counted, and a wrong password gets the refusal.
    pub(super) fn during_delay(refusal: Error) -> Self {
        Self { refusal: Some(refusal), ..Self::uncounted() }
    }

    /// Resolves the attempt by its outcome: `Some` for a right password, `None` for a wrong one. An error is ours and
    /// does not count as a failure.
    pub fn resolve<T>(mut self, outcome: Result<Option<T>, Error>) -> Result<Option<T>, Error> {
        match &outcome {
            Ok(Some(_)) => self.refund(true),
            Ok(None) => return self.refusal.take().map_or(outcome, Err),
            Err(_) => self.refund(false),
        }
        outcome
    }

    /// Takes the attempt back. A right password also clears the earlier failures of this account from this address, or
    /// of this session. Failures of the address at other accounts stay, and so do those of others at this account.
    fn refund(self, is_right: bool) {
        let Some((failed, charged)) = self.charged else { return };
        let mut table = failed.lock();
        for Charge { key, before } in charged {
            let is_own = matches!(key, Key::AccountFrom(..) | Key::Session(_) | Key::User(_));
            let Some(failures) = table.peek_mut(&key) else { continue };
            failures.n = failures.n.saturating_sub(1);
            if failures.last == self.at {
                failures.last = before.unwrap_or(self.at);
            }
            if failures.n == 0 || (is_own && is_right) {
                table.pop(&key);
            }
        }
    }
}

impl Failures {
    fn is_recent(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.last) < RESET_AFTER
    }
}

/// The keys of an attempt with their failures without delay. An unusable name counts for no account.
fn keys(subject: PasswordSubject<'_>) -> Vec<(Key, u32)> {
    match subject {
        PasswordSubject::SignIn { account, from, is_known } => {
            let from = from.map(network);
            let address = from.map(|from| (Key::Address(from), FREE_FAILURES_PER_ADDRESS));
            let free = if is_known { u32::MAX } else { FREE_FAILURES_PER_ACCOUNT };
            let account = (!account.is_empty()).then(|| {
                [(Key::AccountFrom(account.to_owned(), from), FREE_FAILURES), (Key::Account(account.to_owned()), free)]
            });
            account.into_iter().flatten().chain(address).collect()
        }
        PasswordSubject::Session(session) => vec![(Key::Session(session), FREE_FAILURES)],
        PasswordSubject::User(user) => vec![(Key::User(user), FREE_FAILURES)],
    }
}

/// One second after the last failure without delay, doubled by each further failure.
fn delay(n: u32, free: u32) -> Duration {
    let Some(doublings) = n.checked_sub(free) else { return Duration::ZERO };
    Duration::from_secs(1 << doublings.min(6)).min(MAX_DELAY)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed_passwords() -> Arc<FailedPasswords> {
        Arc::new(FailedPasswords::new(NonZeroUsize::new(1_000).unwrap()))
    }

    fn stranger(account: &str, n: u8) -> PasswordSubject<'_> {
        PasswordSubject::SignIn { account, from: Some(IpAddr::from([192, 0, 2, n])), is_known: false }
    }

    fn known(account: &str, n: u8) -> PasswordSubject<'_> {
        PasswordSubject::SignIn { account, from: Some(IpAddr::from([192, 0, 2, n])), is_known: true }
    }

    /// Seconds to wait; an attempt that may start fails.
    fn wait(failed: &Arc<FailedPasswords>, subject: PasswordSubject<'_>, now: Instant) -> u64 {
        match FailedPasswords::begin(failed, subject, now) {
            Ok(_) => 0,
            Err(Error::TooSoon { retry_after_seconds }) => retry_after_seconds,
            Err(other) => panic!("{other}"),
        }
    }

    fn right(failed: &Arc<FailedPasswords>, subject: PasswordSubject<'_>, now: Instant) {
        FailedPasswords::begin(failed, subject, now).unwrap().resolve(Ok(Some(()))).unwrap();
    }

    #[test]
    fn delays_double_after_five_failures_and_reset_after_a_while() {
        let start = Instant::now();
        for subject in [stranger("ann", 1), PasswordSubject::Session(SessionId::from_database(uuid::Uuid::nil()))] {
            let (failed, mut waits, mut now) = (failed_passwords(), Vec::new(), start);
            for _ in 0..14 {
                let seconds = wait(&failed, subject, now);
                waits.push(seconds);
                now += Duration::from_secs(seconds);
                if seconds > 0 {
                    assert_eq!(wait(&failed, subject, now), 0);
                }
            }
            assert_eq!(waits, [0, 0, 0, 0, 0, 1, 2, 4, 8, 16, 32, 60, 60, 60]);
            assert_eq!((wait(&failed, stranger("ann", 2), now), wait(&failed, stranger("bob", 1), now)), (0, 0));
            now += RESET_AFTER;
            assert_eq!((wait(&failed, subject, now), wait(&failed, subject, now)), (0, 0));
        }
    }

    #[test]
    fn failures_of_many_addresses_and_at_many_accounts_add_up() {
        let (failed, now) = (failed_passwords(), Instant::now());
        let contended = |account, n, now| failed.is_sign_in_contended(account, Some(IpAddr::from([192, 0, 2, n])), now);
        for n in 0..50 {
            assert!(!contended("ann", 99, now));
            assert_eq!(wait(&failed, stranger("ann", n), now), 0);
            assert_eq!(wait(&failed, stranger(&format!("account {n}"), 200), now), 0);
        }
        assert!(contended("ann", 99, now) && !contended("ann", 99, now + RESET_AFTER));
        assert!(contended("bob", 200, now) && !contended("bob", 99, now));
        assert_eq!(wait(&failed, stranger("ann", 99), now), 1);
        assert_eq!(wait(&failed, stranger("another", 200), now), 1);
        // A known address is not delayed by failures of others at the account, only by its own.
        for _ in 0..5 {
            assert_eq!(wait(&failed, known("ann", 98), now), 0);
        }
        assert_eq!((wait(&failed, known("ann", 98), now), wait(&failed, known("ann", 200), now)), (1, 1));
    }

    #[test]
    fn an_attempt_counts_as_failed_until_it_is_resolved() {
        let (failed, now) = (failed_passwords(), Instant::now());
        let mut open: Vec<_> =
            (0..5).map(|_| FailedPasswords::begin(&failed, stranger("ann", 1), now).unwrap()).collect();
        assert_eq!(wait(&failed, stranger("ann", 1), now), 1);
        // An internal error refunds the attempt; dropping it does not.
        assert!(open.pop().unwrap().resolve::<()>(Err(Error::internal("x"))).is_err());
        drop(open);
        assert_eq!(wait(&failed, stranger("ann", 1), now), 0);
        assert_eq!(wait(&failed, stranger("ann", 1), now), 1);
        // A right password clears the failures of its account and address.
        right(&failed, stranger("ann", 1), now + MAX_DELAY);
        assert_eq!(wait(&failed, stranger("ann", 1), now + MAX_DELAY), 0);
    }

    #[test]
    fn a_right_password_leaves_the_failures_of_others() {
        let (failed, now) = (failed_passwords(), Instant::now());
        for n in 0..50 {
            assert_eq!(wait(&failed, stranger(&format!("account {n}"), 1), now), 0);
        }
        for minute in 1..15 {
            right(&failed, stranger("ann", 1), now + Duration::from_secs(minute * 60));
        }
        assert_eq!(failed.lock().len(), 2 * 50 + 1, "only failures are kept");
        assert_eq!(failed.lock().peek(&Key::Address(IpAddr::from([192, 0, 2, 1]))).unwrap().last, now);
    }
}
