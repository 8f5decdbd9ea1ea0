//! How often somebody may ask: budgets by address and by person, and delays that grow with failures.
//! Counted by this server alone and forgotten with it; every table is bounded.

use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use lru::LruCache;
use tokio::time::Instant;

use crate::error::Error;
use crate::ids::UserId;

/// Sign-ins, registrations, refreshes and acceptances of one address per minute, and at once.
const ATTEMPTS_PER_MINUTE: NonZeroU32 = NonZeroU32::new(60).expect("not zero");
/// Requests of one person per second in the long run.
const REQUESTS_PER_SECOND: NonZeroU32 = NonZeroU32::new(50).expect("not zero");
/// Requests of one person at once.
const REQUESTS_AT_ONCE: NonZeroU32 = NonZeroU32::new(500).expect("not zero");
/// Requests of one address per second in the long run: a household, or a proxy, is one address.
const ADDRESS_REQUESTS_PER_SECOND: NonZeroU32 = NonZeroU32::new(200).expect("not zero");
/// Requests of one address at once.
const ADDRESS_REQUESTS_AT_ONCE: NonZeroU32 = NonZeroU32::new(2_000).expect("not zero");
/// Keys of one table that count for themselves; all further ones share one budget.
const MAX_KEYS: usize = 20_000;
/// Uses of a table between two sweeps of what is full again.
const SWEEP_EVERY: u32 = 1_024;

/// Failures of one account from one address that cost nothing.
const FREE_FAILURES: u32 = 5;
/// Failures of one account from anywhere: many guessers are one guesser.
const FREE_FAILURES_PER_ACCOUNT: u32 = 50;
/// Failures of one address at any account: one guesser may try many accounts.
const FREE_FAILURES_PER_ADDRESS: u32 = 50;
/// The longest delay.
const MAX_DELAY: Duration = Duration::from_secs(60);
/// Quiet time after which failures are forgotten.
const FORGET_AFTER: Duration = Duration::from_secs(15 * 60);

/// Refuses what comes too often. Cheap to clone; all clones count together.
#[derive(Clone)]
pub struct Throttle(Option<Arc<Tables>>);

struct Tables {
    attempts: Budget<IpAddr>,
    requests: Budget<UserId>,
    address_requests: Budget<IpAddr>,
    failures: Mutex<LruCache<Guess, Failures>>,
}

/// What failures are counted by.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Guess {
    Pair(String, Option<IpAddr>),
    Account(String),
    Address(IpAddr),
}

#[derive(Clone, Copy)]
struct Failures {
    n: u32,
    last: Instant,
}

struct Budget<K: Clone + std::hash::Hash + Eq> {
    limiter: DefaultKeyedRateLimiter<K>,
    /// Stands for all that find the table full.
    rest: K,
    uses: AtomicU32,
}

impl Throttle {
    /// Counts, or lets everything through: `RATE_LIMITS`.
    pub fn new(is_on: bool) -> Self {
        let per_minute = Quota::per_minute(ATTEMPTS_PER_MINUTE);
        let per_user = Quota::per_second(REQUESTS_PER_SECOND).allow_burst(REQUESTS_AT_ONCE);
        let per_address = Quota::per_second(ADDRESS_REQUESTS_PER_SECOND).allow_burst(ADDRESS_REQUESTS_AT_ONCE);
        let nowhere = IpAddr::from([0, 0, 0, 0]);
        let max = std::num::NonZeroUsize::new(MAX_KEYS).expect("not zero");
        Self(is_on.then(|| {
            Arc::new(Tables {
                attempts: Budget::new(per_minute, nowhere),
                requests: Budget::new(per_user, UserId::from_database(0)),
                address_requests: Budget::new(per_address, nowhere),
                failures: Mutex::new(LruCache::new(max)),
            })
        }))
    }

    /// One more request of somebody.
    pub fn request(&self, user: Option<UserId>, from: Option<IpAddr>) -> Result<(), Error> {
        let Some(tables) = &self.0 else { return Ok(()) };
        if let Some(from) = from {
            tables.address_requests.take(&network(from))?;
        }
        user.map_or(Ok(()), |user| tables.requests.take(&user))
    }

    /// One more attempt to become somebody: a sign-in, a registration, a token to exchange.
    pub fn attempt(&self, from: Option<IpAddr>) -> Result<(), Error> {
        let Some(tables) = &self.0 else { return Ok(()) };
        from.map_or(Ok(()), |from| tables.attempts.take(&network(from)))
    }

    /// Whether another guess may be made now. An account that does not exist is judged like one that does.
    pub fn guess(&self, account: &str, from: Option<IpAddr>) -> Result<(), Error> {
        self.guess_at(account, from, Instant::now())
    }

    fn guess_at(&self, account: &str, from: Option<IpAddr>, now: Instant) -> Result<(), Error> {
        let Some(tables) = &self.0 else { return Ok(()) };
        let failures = tables.failures.lock().expect("failures lock");
        let waits = guesses(account, from).into_iter().filter_map(|(key, free)| {
            let until = failures.peek(&key).map(|failures| failures.last + delay(failures.n, free))?;
            until.checked_duration_since(now).filter(|wait| !wait.is_zero())
        });
        waits.max().map_or(Ok(()), |wait| Err(too_soon(wait)))
    }

    /// The guess was wrong.
    pub fn failed(&self, account: &str, from: Option<IpAddr>) {
        self.failed_at(account, from, Instant::now());
    }

    fn failed_at(&self, account: &str, from: Option<IpAddr>, now: Instant) {
        let Some(tables) = &self.0 else { return };
        let mut failures = tables.failures.lock().expect("failures lock");
        for (key, _) in guesses(account, from) {
            let known = failures.get(&key).filter(|known| now.saturating_duration_since(known.last) < FORGET_AFTER);
            let n = known.map_or(0, |known| known.n).saturating_add(1);
            failures.put(key, Failures { n, last: now });
        }
    }

    /// The guess was right. What the address did at other accounts stays.
    pub fn succeeded(&self, account: &str, from: Option<IpAddr>) {
        let Some(tables) = &self.0 else { return };
        let mut failures = tables.failures.lock().expect("failures lock");
        failures.pop(&Guess::Pair(account.to_owned(), from.map(network)));
    }
}

/// With what each may fail for nothing. An unusable name is nobody's account.
fn guesses(account: &str, from: Option<IpAddr>) -> Vec<(Guess, u32)> {
    let from = from.map(network);
    let address = from.map(|from| (Guess::Address(from), FREE_FAILURES_PER_ADDRESS));
    let account = (!account.is_empty()).then(|| {
        let pair = (Guess::Pair(account.to_owned(), from), FREE_FAILURES);
        [pair, (Guess::Account(account.to_owned()), FREE_FAILURES_PER_ACCOUNT)]
    });
    account.into_iter().flatten().chain(address).collect()
}

/// A second after the last free failure, twice as long after each further one.
fn delay(n: u32, free: u32) -> Duration {
    let Some(doublings) = n.checked_sub(free) else { return Duration::ZERO };
    Duration::from_secs(1 << doublings.min(6)).min(MAX_DELAY)
}

fn too_soon(wait: Duration) -> Error {
    let whole = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    Error::TooSoon { retry_after_seconds: whole.max(1) }
}

impl<K: Clone + std::hash::Hash + Eq> Budget<K> {
    fn new(quota: Quota, rest: K) -> Self {
        Self { limiter: RateLimiter::keyed(quota), rest, uses: AtomicU32::new(0) }
    }

    fn take(&self, key: &K) -> Result<(), Error> {
        if self.uses.fetch_add(1, Ordering::Relaxed).is_multiple_of(SWEEP_EVERY) {
            self.limiter.retain_recent();
        }
        let is_full = self.limiter.len() >= MAX_KEYS;
        let key = if is_full { &self.rest } else { key };
        let wait = |not_until: governor::NotUntil<_>| too_soon(not_until.wait_time_from(DefaultClock::default().now()));
        self.limiter.check_key(key).map_err(wait)
    }
}

/// Whom an address stands for: itself, or the 64-bit network of an IPv6 one. Whoever has one address of
/// that has all of them.
pub fn network(addr: IpAddr) -> IpAddr {
    match addr.to_canonical() {
        IpAddr::V6(addr) => Ipv6Addr::from_bits(addr.to_bits() & !u128::from(u64::MAX)).into(),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(n: u8) -> Option<IpAddr> {
        Some(IpAddr::from([192, 0, 2, n]))
    }

    fn seconds(refused: Result<(), Error>) -> u64 {
        match refused {
            Ok(()) => 0,
            Err(Error::TooSoon { retry_after_seconds }) => retry_after_seconds,
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn delays_double_after_five_failures_and_are_forgotten() {
        let throttle = Throttle::new(true);
        let (mut waits, mut now) = (Vec::new(), Instant::now());
        for _ in 0..14 {
            let wait = seconds(throttle.guess_at("ann", at(1), now));
            waits.push(wait);
            now += Duration::from_secs(wait);
            assert!(throttle.guess_at("ann", at(1), now).is_ok());
            throttle.failed_at("ann", at(1), now);
        }
        assert_eq!(waits, [0, 0, 0, 0, 0, 1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert!(throttle.guess_at("ann", at(2), now).is_ok() && throttle.guess_at("bob", at(1), now).is_ok());
        now += FORGET_AFTER;
        throttle.failed_at("ann", at(1), now);
        assert!(throttle.guess_at("ann", at(1), now).is_ok());
    }

    #[test]
    fn many_addresses_are_one_guesser_and_many_accounts_too() {
        let (throttle, now) = (Throttle::new(true), Instant::now());
        for n in 0..50 {
            assert!(throttle.guess_at("ann", at(n), now).is_ok());
            throttle.failed_at("ann", at(n), now);
            throttle.failed_at(&format!("account {n}"), at(200), now);
        }
        assert_eq!(seconds(throttle.guess_at("ann", at(99), now)), 1);
        assert_eq!(seconds(throttle.guess_at("another", at(200), now)), 1);
        throttle.succeeded("ann", at(1));
    }

    #[test]
    fn a_budget_is_of_one_and_its_table_is_bounded() {
        let throttle = Throttle::new(true);
        let of = |from| (0..100).filter(|_| throttle.attempt(from).is_ok()).count();
        assert!((60..=61).contains(&of(at(1))));
        assert!((60..=61).contains(&of(at(2))));
        let tables = throttle.0.as_ref().unwrap();
        for n in 0..3 * u32::try_from(MAX_KEYS).unwrap() {
            let _ = throttle.attempt(Some(IpAddr::from(n.to_be_bytes())));
        }
        assert!(tables.attempts.limiter.len() <= MAX_KEYS + 1);
        assert!((0..1_000).all(|_| Throttle::new(false).attempt(at(1)).is_ok()));
    }
}
