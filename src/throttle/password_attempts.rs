//! Wrong guesses of a password, and the delays that grow with them. A guess counts as wrong from the moment
//! it is let through until it has proved right: of many at once no more pass than of as many in a row.

use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use lru::LruCache;
use tokio::time::Instant;

use super::{network, too_soon};
use crate::error::Error;
use crate::ids::{SessionId, UserId};

/// Failures of one account from one address, or in one session, that cost nothing.
const FREE_FAILURES: u32 = 5;
/// Failures of one account from anywhere: many guessers are one guesser.
const FREE_FAILURES_PER_ACCOUNT: u32 = 50;
/// Failures of one address at any account: one guesser may try many accounts.
const FREE_FAILURES_PER_ADDRESS: u32 = 50;
/// The longest delay.
const MAX_DELAY: Duration = Duration::from_secs(60);
/// Quiet time after which failures are forgotten.
const FORGET_AFTER: Duration = Duration::from_secs(15 * 60);

/// Who guesses whose password.
#[derive(Debug, Clone, Copy)]
pub enum PasswordSubject<'a> {
    /// Somebody who wants in. An account that does not exist is judged like one that does.
    SignIn {
        /// The login name; empty where what was typed can be nobody's.
        account: &'a str,
        /// The client's address.
        from: Option<IpAddr>,
        /// Whether the account has signed in from that network before. What others fail at the account
        /// does not hold it up then, or one guess a minute would lock its owner out for good.
        is_known: bool,
    },
    /// A session at the password of its person.
    Session(SessionId),
    /// A token without a session at the password of its person.
    User(UserId),
}

/// What failures are counted by.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Key {
    Pair(String, Option<IpAddr>),
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

/// All that has failed of late, in a bounded table.
pub(super) struct FailedPasswords(Mutex<LruCache<Key, Failures>>);

/// A guess under way. Dropped, it was wrong.
#[must_use]
pub struct PasswordAttempt {
    /// None where nothing is counted.
    charged: Option<(Arc<FailedPasswords>, Vec<Charge>)>,
    at: Instant,
}

/// One key's part of a guess.
struct Charge {
    key: Key,
    /// The last failure before it.
    before: Option<Instant>,
}

impl FailedPasswords {
    pub(super) fn new(max_keys: NonZeroUsize) -> Self {
        Self(Mutex::new(LruCache::new(max_keys)))
    }

    /// Lets a guess through and counts it, or says how long it must wait: in one step, so that none slips
    /// in between.
    pub(super) fn begin(
        this: &Arc<Self>,
        guesser: PasswordSubject<'_>,
        now: Instant,
    ) -> Result<PasswordAttempt, Error> {
        let keys = keys(guesser);
        let mut table = this.lock();
        let waits = keys.iter().filter_map(|(key, free)| {
            let until = table.peek(key).map(|failures| failures.last + delay(failures.n, *free))?;
            until.checked_duration_since(now).filter(|wait| !wait.is_zero())
        });
        if let Some(wait) = waits.max() {
            return Err(too_soon(wait));
        }
        let charge = |(key, _): (Key, u32)| {
            let before = table.get(&key).copied().filter(|known| known.is_of_late(now));
            let n = before.map_or(0, |known| known.n).saturating_add(1);
            table.put(key.clone(), Failures { n, last: now });
            Charge { key, before: before.map(|known| known.last) }
        };
        let charged = keys.into_iter().map(charge).collect();
        Ok(PasswordAttempt { charged: Some((this.clone(), charged)), at: now })
    }

    /// Whether so many have failed at an account that all must wait for each other.
    pub(super) fn is_account_contended(&self, account: &str, now: Instant) -> bool {
        let failures = self.lock().peek(&Key::Account(account.to_owned())).copied();
        failures.is_some_and(|failures| failures.n >= FREE_FAILURES_PER_ACCOUNT && failures.is_of_late(now))
    }

    fn lock(&self) -> MutexGuard<'_, LruCache<Key, Failures>> {
        self.0.lock().expect("guesses lock")
    }
}

impl PasswordAttempt {
    /// One that nobody counts.
    pub(super) fn uncounted() -> Self {
        Self { charged: None, at: Instant::now() }
    }

    /// Settles it by what has come of it: something where it was right, nothing where it was wrong. An
    /// error is ours, and no guess.
    pub fn resolve<T>(self, outcome: Result<Option<T>, Error>) -> Result<Option<T>, Error> {
        match &outcome {
            Ok(Some(_)) => self.take_back(true),
            Ok(None) => {}
            Err(_) => self.take_back(false),
        }
        outcome
    }

    /// A right one forgives the pair, or the session, what it did before. What an address did at other
    /// accounts stays, and what others did at this one.
    fn take_back(self, is_right: bool) {
        let Some((guesses, charged)) = self.charged else { return };
        let mut table = guesses.lock();
        for Charge { key, before } in charged {
            let is_own = matches!(key, Key::Pair(..) | Key::Session(_) | Key::User(_));
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
    fn is_of_late(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.last) < FORGET_AFTER
    }
}

/// With what each may fail for nothing. An unusable name is nobody's account.
fn keys(guesser: PasswordSubject<'_>) -> Vec<(Key, u32)> {
    match guesser {
        PasswordSubject::SignIn { account, from, is_known } => {
            let from = from.map(network);
            let address = from.map(|from| (Key::Address(from), FREE_FAILURES_PER_ADDRESS));
            let free = if is_known { u32::MAX } else { FREE_FAILURES_PER_ACCOUNT };
            let account = (!account.is_empty()).then(|| {
                [(Key::Pair(account.to_owned(), from), FREE_FAILURES), (Key::Account(account.to_owned()), free)]
            });
            account.into_iter().flatten().chain(address).collect()
        }
        PasswordSubject::Session(session) => vec![(Key::Session(session), FREE_FAILURES)],
        PasswordSubject::User(user) => vec![(Key::User(user), FREE_FAILURES)],
    }
}

/// A second after the last free failure, twice as long after each further one.
fn delay(n: u32, free: u32) -> Duration {
    let Some(doublings) = n.checked_sub(free) else { return Duration::ZERO };
    Duration::from_secs(1 << doublings.min(6)).min(MAX_DELAY)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guesses() -> Arc<FailedPasswords> {
        Arc::new(FailedPasswords::new(NonZeroUsize::new(1_000).unwrap()))
    }

    fn stranger(account: &str, n: u8) -> PasswordSubject<'_> {
        PasswordSubject::SignIn { account, from: Some(IpAddr::from([192, 0, 2, n])), is_known: false }
    }

    fn known(account: &str, n: u8) -> PasswordSubject<'_> {
        PasswordSubject::SignIn { account, from: Some(IpAddr::from([192, 0, 2, n])), is_known: true }
    }

    /// Seconds to wait; a guess that is let through is wrong.
    fn wait(guesses: &Arc<FailedPasswords>, guesser: PasswordSubject<'_>, now: Instant) -> u64 {
        match FailedPasswords::begin(guesses, guesser, now) {
            Ok(_) => 0,
            Err(Error::TooSoon { retry_after_seconds }) => retry_after_seconds,
            Err(other) => panic!("{other}"),
        }
    }

    fn right(guesses: &Arc<FailedPasswords>, guesser: PasswordSubject<'_>, now: Instant) {
        FailedPasswords::begin(guesses, guesser, now).unwrap().resolve(Ok(Some(()))).unwrap();
    }

    #[test]
    fn delays_double_after_five_failures_and_are_forgotten() {
        let start = Instant::now();
        for guesser in [stranger("ann", 1), PasswordSubject::Session(SessionId::from_database(uuid::Uuid::nil()))] {
            let (guesses, mut waits, mut now) = (guesses(), Vec::new(), start);
            for _ in 0..14 {
                let seconds = wait(&guesses, guesser, now);
                waits.push(seconds);
                now += Duration::from_secs(seconds);
                if seconds > 0 {
                    assert_eq!(wait(&guesses, guesser, now), 0);
                }
            }
            assert_eq!(waits, [0, 0, 0, 0, 0, 1, 2, 4, 8, 16, 32, 60, 60, 60]);
            assert_eq!((wait(&guesses, stranger("ann", 2), now), wait(&guesses, stranger("bob", 1), now)), (0, 0));
            now += FORGET_AFTER;
            assert_eq!((wait(&guesses, guesser, now), wait(&guesses, guesser, now)), (0, 0));
        }
    }

    #[test]
    fn many_addresses_are_one_guesser_and_many_accounts_too() {
        let (guesses, now) = (guesses(), Instant::now());
        for n in 0..50 {
            assert!(!guesses.is_account_contended("ann", now));
            assert_eq!(wait(&guesses, stranger("ann", n), now), 0);
            assert_eq!(wait(&guesses, stranger(&format!("account {n}"), 200), now), 0);
        }
        assert!(guesses.is_account_contended("ann", now) && !guesses.is_account_contended("ann", now + FORGET_AFTER));
        assert_eq!(wait(&guesses, stranger("ann", 99), now), 1);
        assert_eq!(wait(&guesses, stranger("another", 200), now), 1);
        // Whoever is known waits for nobody else, but for themselves and their address.
        for _ in 0..5 {
            assert_eq!(wait(&guesses, known("ann", 98), now), 0);
        }
        assert_eq!((wait(&guesses, known("ann", 98), now), wait(&guesses, known("ann", 200), now)), (1, 1));
    }

    #[test]
    fn a_guess_under_way_is_wrong_until_it_is_settled() {
        let (guesses, now) = (guesses(), Instant::now());
        let mut open: Vec<_> =
            (0..5).map(|_| FailedPasswords::begin(&guesses, stranger("ann", 1), now).unwrap()).collect();
        assert_eq!(wait(&guesses, stranger("ann", 1), now), 1);
        // Our own error makes room for one more; to have gone away does not.
        assert!(open.pop().unwrap().resolve::<()>(Err(Error::internal("x"))).is_err());
        drop(open);
        assert_eq!(wait(&guesses, stranger("ann", 1), now), 0);
        assert_eq!(wait(&guesses, stranger("ann", 1), now), 1);
        // A right one forgives its pair.
        right(&guesses, stranger("ann", 1), now + MAX_DELAY);
        assert_eq!(wait(&guesses, stranger("ann", 1), now + MAX_DELAY), 0);
    }

    #[test]
    fn a_right_guess_leaves_the_failures_of_others_as_they_were() {
        let (guesses, now) = (guesses(), Instant::now());
        for n in 0..50 {
            assert_eq!(wait(&guesses, stranger(&format!("account {n}"), 1), now), 0);
        }
        for minute in 1..15 {
            right(&guesses, stranger("ann", 1), now + Duration::from_secs(minute * 60));
        }
        assert_eq!(guesses.lock().len(), 2 * 50 + 1, "only what failed is kept");
        assert_eq!(guesses.lock().peek(&Key::Address(IpAddr::from([192, 0, 2, 1]))).unwrap().last, now);
    }
}
