//! Rate limits by address and by user, and delays that grow with failed passwords. Each server counts for itself, in
//! memory; every table is bounded.

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

/// Sign-ins, registrations, token refreshes, accepted invitations and password changes of one address: per minute,
/// and at once.
const ATTEMPTS_PER_MINUTE: NonZeroU32 = NonZeroU32::new(60).expect("not zero");
/// Password changes of one user: per minute, and at once. Each costs two password hashes.
const USER_ATTEMPTS_PER_MINUTE: NonZeroU32 = NonZeroU32::new(10).expect("not zero");
/// Sustained requests of one user per second.
const REQUESTS_PER_SECOND: NonZeroU32 = NonZeroU32::new(50).expect("not zero");
/// Requests of one user at once.
const REQUEST_BURST: NonZeroU32 = NonZeroU32::new(500).expect("not zero");
/// Sustained requests of one address per second. A household, or a proxy, is one address.
const ADDRESS_REQUESTS_PER_SECOND: NonZeroU32 = NonZeroU32::new(200).expect("not zero");
/// Requests of one address at once.
const ADDRESS_REQUEST_BURST: NonZeroU32 = NonZeroU32::new(2_000).expect("not zero");
/// Keys of one table with a limit of their own; all further keys share one.
const MAX_KEYS: usize = 20_000;
/// Uses of a table between two removals of idle keys.
const SWEEP_EVERY: u32 = 1_024;

/// All rate limits of requests. Cheap to clone; all clones count together.
#[derive(Clone)]
pub struct Throttle(Option<Arc<Tables>>);

struct Tables {
    address_attempts: KeyedLimiter<IpAddr>,
    user_attempts: KeyedLimiter<UserId>,
    user_requests: KeyedLimiter<UserId>,
    address_requests: KeyedLimiter<IpAddr>,
    failed_passwords: Arc<FailedPasswords>,
}

struct KeyedLimiter<K: Clone + std::hash::Hash + Eq> {
    limiter: DefaultKeyedRateLimiter<K>,
    /// The key that all keys share once the table is full.
    overflow: K,
    uses: AtomicU32,
}

impl Throttle {
    /// Without limits unless `is_on` (`RATE_LIMITS`).
    pub fn new(is_on: bool) -> Self {
        let per_minute = Quota::per_minute(ATTEMPTS_PER_MINUTE);
        let per_user = Quota::per_second(REQUESTS_PER_SECOND).allow_burst(REQUEST_BURST);
        let per_address = Quota::per_second(ADDRESS_REQUESTS_PER_SECOND).allow_burst(ADDRESS_REQUEST_BURST);
        let (any_address, any_user) = (IpAddr::from([0, 0, 0, 0]), UserId::from_database(0));
        let max_keys = NonZeroUsize::new(MAX_KEYS).expect("not zero");
        Self(is_on.then(|| {
            Arc::new(Tables {
                address_attempts: KeyedLimiter::new(per_minute, any_address),
                user_attempts: KeyedLimiter::new(Quota::per_minute(USER_ATTEMPTS_PER_MINUTE), any_user),
                user_requests: KeyedLimiter::new(per_user, any_user),
                address_requests: KeyedLimiter::new(per_address, any_address),
                failed_passwords: Arc::new(FailedPasswords::new(max_keys)),
            })
        }))
    }

    /// Counts a request of an address, before its token is verified: verification is costly too.
    pub fn address_request(&self, from: Option<IpAddr>) -> Result<(), Error> {
        let Some(tables) = &self.0 else { return Ok(()) };
        from.map_or(Ok(()), |from| tables.address_requests.check(&network(from)))
    }

    /// Counts the same request for its user, once the token is verified.
    pub fn user_request(&self, user: UserId) -> Result<(), Error> {
        let Some(tables) = &self.0 else { return Ok(()) };
        tables.user_requests.check(&user)
    }

    /// Counts an attempt to authenticate from an address: a sign-in, a registration, a token refresh, an accepted
    /// invitation or a password change.
    pub fn address_attempt(&self, from: Option<IpAddr>) -> Result<(), Error> {
        let Some(tables) = &self.0 else { return Ok(()) };
        from.map_or(Ok(()), |from| tables.address_attempts.check(&network(from)))
    }

    /// Counts an attempt of a user to change their password.
    pub fn user_attempt(&self, user: UserId) -> Result<(), Error> {
        let Some(tables) = &self.0 else { return Ok(()) };
        tables.user_attempts.check(&user)
    }

    /// Whether so many attempts at an account failed recently that unknown addresses must wait
    /// ([`PasswordSubject::SignIn`]).
    pub fn is_account_contended(&self, account: &str) -> bool {
        self.0.as_ref().is_some_and(|tables| tables.failed_passwords.is_account_contended(account, Instant::now()))
    }

    /// Starts a password attempt, or fails with the time to wait. The attempt counts as failed until it is resolved.
    pub fn begin_password_attempt(&self, subject: PasswordSubject<'_>) -> Result<PasswordAttempt, Error> {
        match &self.0 {
            Some(tables) => FailedPasswords::begin(&tables.failed_passwords, subject, Instant::now()),
            None => Ok(PasswordAttempt::uncounted()),
        }
    }
}

fn too_soon(wait: Duration) -> Error {
    let whole = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    Error::TooSoon { retry_after_seconds: whole.max(1) }
}

impl<K: Clone + std::hash::Hash + Eq> KeyedLimiter<K> {
    fn new(quota: Quota, overflow: K) -> Self {
        Self { limiter: RateLimiter::keyed(quota), overflow, uses: AtomicU32::new(0) }
    }

    fn check(&self, key: &K) -> Result<(), Error> {
        if self.uses.fetch_add(1, Ordering::Relaxed).is_multiple_of(SWEEP_EVERY) {
            self.limiter.retain_recent();
        }
        let is_full = self.limiter.len() >= MAX_KEYS;
        let key = if is_full { &self.overflow } else { key };
        let wait = |not_until: governor::NotUntil<_>| too_soon(not_until.wait_time_from(DefaultClock::default().now()));
        self.limiter.check_key(key).map_err(wait)
    }
}

/// What rate limits count an address as: itself, or the /64 network of an IPv6 address, because one subscriber usually
/// owns a whole /64.
pub fn network(addr: IpAddr) -> IpAddr {
    match addr.to_canonical() {
        IpAddr::V6(addr) => Ipv6Addr::from_bits(addr.to_bits() & !u128::from(u64::MAX)).into(),
        v4 => v4,
    }
}

/// The first and the last address of [`network`].
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
    fn each_key_has_its_own_limit_and_the_table_is_bounded() {
        let throttle = Throttle::new(true);
        let of = |from| (0..100).filter(|_| throttle.address_attempt(from).is_ok()).count();
        assert!((60..=61).contains(&of(at(1))));
        assert!((60..=61).contains(&of(at(2))));
        let tables = throttle.0.as_ref().unwrap();
        for n in 0..3 * u32::try_from(MAX_KEYS).unwrap() {
            let _ = throttle.address_attempt(Some(IpAddr::from(n.to_be_bytes())));
        }
        assert!(tables.address_attempts.limiter.len() <= MAX_KEYS + 1);
        assert!((0..1_000).all(|_| Throttle::new(false).address_attempt(at(1)).is_ok()));
    }
}
