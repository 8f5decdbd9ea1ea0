//! How often somebody may ask: budgets by address and by person, and delays that grow with failures.
//! Counted by this server alone and forgotten with it; every table is bounded.

mod password_attempts;

use std::net::{IpAddr, Ipv6Addr};
use std::num::{NonZeroU32, NonZeroUsize};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use tokio::time::Instant;

use crate::error::Error;
use crate::ids::UserId;
use password_attempts::FailedPasswords;

pub use password_attempts::{PasswordAttempt, PasswordSubject};

/// Sign-ins, registrations, refreshes, acceptances and new passwords of one address per minute, and at once.
const ATTEMPTS_PER_MINUTE: NonZeroU32 = NonZeroU32::new(60).expect("not zero");
/// New passwords of one person per minute, and at once: each costs two hashes.
const PERSON_ATTEMPTS_PER_MINUTE: NonZeroU32 = NonZeroU32::new(10).expect("not zero");
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

/// Refuses what comes too often. Cheap to clone; all clones count together.
#[derive(Clone)]
pub struct Throttle(Option<Arc<Tables>>);

struct Tables {
    attempts: Budget<IpAddr>,
    person_attempts: Budget<UserId>,
    requests: Budget<UserId>,
    address_requests: Budget<IpAddr>,
    guesses: Arc<FailedPasswords>,
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
        let (nowhere, nobody) = (IpAddr::from([0, 0, 0, 0]), UserId::from_database(0));
        let max_keys = NonZeroUsize::new(MAX_KEYS).expect("not zero");
        Self(is_on.then(|| {
            Arc::new(Tables {
                attempts: Budget::new(per_minute, nowhere),
                person_attempts: Budget::new(Quota::per_minute(PERSON_ATTEMPTS_PER_MINUTE), nobody),
                requests: Budget::new(per_user, nobody),
                address_requests: Budget::new(per_address, nowhere),
                guesses: Arc::new(FailedPasswords::new(max_keys)),
            })
        }))
    }

    /// One more request of an address, whoever it is for: before its token is judged, which costs too.
    pub fn address_request(&self, from: Option<IpAddr>) -> Result<(), Error> {
        let Some(tables) = &self.0 else { return Ok(()) };
        from.map_or(Ok(()), |from| tables.address_requests.take(&network(from)))
    }

    /// The same request as one of a person, once it is known whose it is.
    pub fn user_request(&self, user: UserId) -> Result<(), Error> {
        let Some(tables) = &self.0 else { return Ok(()) };
        tables.requests.take(&user)
    }

    /// One more attempt to become somebody: a sign-in, a registration, a token to exchange; or to stay it
    /// by a new password.
    pub fn address_attempt(&self, from: Option<IpAddr>) -> Result<(), Error> {
        let Some(tables) = &self.0 else { return Ok(()) };
        from.map_or(Ok(()), |from| tables.attempts.take(&network(from)))
    }

    /// One more attempt of a person at their own password.
    pub fn user_attempt(&self, user: UserId) -> Result<(), Error> {
        let Some(tables) = &self.0 else { return Ok(()) };
        tables.person_attempts.take(&user)
    }

    /// Whether so many have failed at an account of late that it matters who is known there
    /// ([`PasswordSubject::SignIn`]).
    pub fn is_account_contended(&self, account: &str) -> bool {
        self.0.as_ref().is_some_and(|tables| tables.guesses.is_account_contended(account, Instant::now()))
    }

    /// Lets a guess be made now, or says when. It counts as wrong until it is settled.
    pub fn begin_password_attempt(&self, guesser: PasswordSubject<'_>) -> Result<PasswordAttempt, Error> {
        match &self.0 {
            Some(tables) => FailedPasswords::begin(&tables.guesses, guesser, Instant::now()),
            None => Ok(PasswordAttempt::uncounted()),
        }
    }
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

/// The first and the last address of somebody's network.
pub fn network_range(addr: IpAddr) -> (IpAddr, IpAddr) {
    match network(addr) {
        IpAddr::V6(first) => (first.into(), Ipv6Addr::from_bits(first.to_bits() | u128::from(u64::MAX)).into()),
        v4 => (v4, v4),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(n: u8) -> Option<IpAddr> {
        Some(IpAddr::from([192, 0, 2, n]))
    }

    #[test]
    fn a_budget_is_of_one_and_its_table_is_bounded() {
        let throttle = Throttle::new(true);
        let of = |from| (0..100).filter(|_| throttle.address_attempt(from).is_ok()).count();
        assert!((60..=61).contains(&of(at(1))));
        assert!((60..=61).contains(&of(at(2))));
        let tables = throttle.0.as_ref().unwrap();
        for n in 0..3 * u32::try_from(MAX_KEYS).unwrap() {
            let _ = throttle.address_attempt(Some(IpAddr::from(n.to_be_bytes())));
        }
        assert!(tables.attempts.limiter.len() <= MAX_KEYS + 1);
        assert!((0..1_000).all(|_| Throttle::new(false).address_attempt(at(1)).is_ok()));
    }
}
